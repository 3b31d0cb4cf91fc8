"""The n-token reasoner: n tokens of the model's own, judged as a whole."""

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field, PositiveInt
from torch import Tensor

from forethought.errors import Impossible
from forethought.models import Model
from forethought.objectives.base import check_at_most
from forethought.objectives.next_token import NextToken
from forethought.objectives.sampling import log_likelihood, sampled_metrics
from forethought.tasks import Batch, Task
from forethought.validation import validated

_UNSEEN = 1e-4
"""Probability of a token that the data never show, so that its logarithm is finite."""

_MOST_PIECES = 1024

_NEVER = -1e4
"""log p of a piece that must not count. Its exponential is 0 in fp32, and 0 · log p is no NaN."""


class NTokenReasoner(NextToken):
    """n-token reasoner: the next n tokens, sampled from the model itself and judged as a whole.

    For each row, a place i ≤ A - n + 1 is drawn. After the true tokens before it, the model writes a piece
    z = z_1 … z_n, of probability π(z) = Π_t p(z_t | x, y_<i, z_<t). With a judge R,

        loss = -1/n Σ_z π(z) (R(z) - β log π(z))

        exact                R(z) = 1 if z = y_i … y_{i+n-1}, else 0
        data_likelihood      R(z) = log of the probability of z in the data, after x and y_<i
        model_likelihood     R(z) = log π(z), without a gradient

        input     x_1 … x_P  y_1 … y_{i-1}  z_1 … z_{n-1}
        target                         z_1  z_2 … z_n

    The sum is taken over all V^n pieces, or estimated from K sampled ones by the policy gradient with a
    leave-one-out baseline. Every token of a piece answers for the judgement of the whole piece: a token's
    reach back is n.

    What is best under each judge, at β = 0: a single piece, the one that is likeliest in the data (`exact`,
    `data_likelihood`), or any one (`model_likelihood`, which only sharpens). At β = 1, `data_likelihood`
    makes the loss KL(π ‖ data) / n, which is least if the model samples as the data do. To score -log π
    of the data's own piece instead is next-token prediction, by the chain rule, for every n.

    In a task with a known distribution (`Task.next_probabilities`), the data's probability is that one.
    Elsewhere it is 1 for each true token after true ones. A token without probability counts 10^-4.

    Decoded token by token, like next-token prediction.

    Source: the proposal of a joint loss over n tokens, conditioned on the model's own, from the debate on
    1-token and n-token reasoners. Own tokens after a true prefix, with one reward: MIXER, Ranzato et al.,
    "Sequence Level Training with Recurrent Neural Networks" (1511.06732), §3.2.2, where the prefix
    shrinks in the course of training and the first tokens also carry a next-token loss.

    Args:
        horizon: n, tokens of a piece; at most A. Its place is uniform among those where it fits.
        judge: R, one of the three rows of the table.
        samples: K, pieces a prompt; None sums over all pieces, of which there may be 1,024.
        entropy_weight: β.

    Raises:
        Impossible: `horizon` exceeds the answer, or there are too many pieces to sum over.
    """

    @validated
    def __init__(
        self,
        model: Model,
        task: Task,
        horizon: PositiveInt = 2,
        judge: Literal["exact", "data_likelihood", "model_likelihood"] = "exact",
        samples: Annotated[int, Field(ge=2)] | None = 8,
        entropy_weight: Annotated[float, Field(ge=0)] = 0.0,
    ) -> None:
        super().__init__(model, task)
        check_at_most(task.answer_length, task, horizon=horizon)
        if samples is None and task.dummy**horizon > _MOST_PIECES:
            raise Impossible(
                f"objective.samples=null: there are {task.dummy}^{horizon} pieces to sum over, more than "
                f"{_MOST_PIECES:,}; set objective.samples=8, or a smaller objective.horizon"
            )
        self.horizon, self.judge = horizon, judge
        self.samples, self.entropy_weight = samples, entropy_weight

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        written = (batch.answer != self.task.dummy).sum(1, keepdim=True)
        fits = (written - self.horizon + 1).clamp(min=1)
        place = (torch.rand(fits.shape, device=fits.device) * fits).long()
        return self.piece_loss(batch, place)

    def piece_loss(self, batch: Batch, place: Int[Tensor, "B 1"]) -> Float[Tensor, ""]:
        """Return the loss of the pieces that begin at these places, from 0, in the answers."""
        columns = place + torch.arange(self.horizon, device=place.device)
        find = self.all_pieces if self.samples is None else self.sampled_pieces
        pieces, log_p = find(batch, columns)
        likelihood = log_p.sum(2)
        rewards = self.rewards(batch, columns, pieces, likelihood.detach())
        if self.samples is None:
            value = (likelihood.exp() * (rewards - self.entropy_weight * likelihood)).sum(1)
        else:
            rewards = rewards - self.entropy_weight * likelihood.detach()
            baseline = (rewards.sum(1, keepdim=True) - rewards) / (self.samples - 1)
            value = ((rewards - baseline) * likelihood).mean(1)
        return -value.mean() / self.horizon

    def sampled_pieces(
        self, batch: Batch, columns: Int[Tensor, "B N"]
    ) -> tuple[Int[Tensor, "B K N"], Float[Tensor, "B K N"]]:
        """Return K sampled pieces a row, and log p of each of their tokens."""
        assert self.samples is not None
        at = columns.repeat_interleave(self.samples, 0)
        true = batch.answer.repeat_interleave(self.samples, 0)
        prompt = batch.prompt.repeat_interleave(self.samples, 0)
        cache = self.model.init_cache(len(prompt), prompt.shape[1] + true.shape[1])
        inputs, tokens = self.inputs(prompt, true[:, :0]), []
        # Decoding has too many shapes to be worth compiling, even if training is compiled.
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):
            for i in range(true.shape[1]):
                sampled = self.sample(self.next_logits(self.read(inputs, prompt, 1, cache)), temperature=1.0)
                inputs = torch.where(at[:, :1] > i, true[:, i : i + 1], sampled)
                tokens.append(inputs)
        pieces = torch.cat(tokens, 1).gather(1, at).view(len(batch), -1, self.horizon)
        written = self.write(batch, columns, pieces)
        log_p = log_likelihood(self, written).gather(1, at).view_as(pieces)
        return written.answer.gather(1, at).view_as(pieces), log_p

    def all_pieces(
        self, batch: Batch, columns: Int[Tensor, "B N"]
    ) -> tuple[Int[Tensor, "B K N"], Float[Tensor, "B K N"]]:
        """Return all K = V^n pieces, and log p of each of their tokens.

        Pieces that differ only after an end token are one piece: all but one of them have probability 0.
        """
        n, size = self.horizon, self.task.dummy
        raw = torch.cartesian_prod(*[torch.arange(size, device=columns.device)] * n).view(-1, n)
        written = self.write(batch, columns, raw.expand(len(batch), -1, -1))
        at = columns.repeat_interleave(len(raw), 0)
        pieces = written.answer.gather(1, at).view(len(batch), -1, n)
        # The last token changes fastest and is never read: one reading serves `size` pieces.
        logits = self.piece_logits(written[::size], at[::size])[..., :size]
        log_p = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(2)
        log_p = F.pad(log_p, (0, 1)).repeat_interleave(size, 0)  # padding is certain
        log_p = log_p.gather(2, pieces.view(-1, n, 1)).view_as(pieces)
        repeated = ((pieces == self.task.dummy) & (raw > 0)).any(2, keepdim=True)
        return pieces, log_p.masked_fill(repeated, _NEVER)

    def write(self, batch: Batch, columns: Int[Tensor, "B N"], pieces: Int[Tensor, "B K N"]) -> Batch:
        """Return K rows for each row: the true answer before a piece, the piece, and `$` after it."""
        shape = (len(batch), pieces.shape[1], batch.answer.shape[1])
        answers = batch.answer[:, None].expand(shape)
        answers = answers.scatter(2, columns[:, None].expand_as(pieces), pieces)
        after = torch.arange(shape[2], device=columns.device) > columns[:, -1:]
        answers = answers.masked_fill(after[:, None], self.task.dummy).flatten(0, 1)
        return Batch(batch.prompt.repeat_interleave(shape[1], 0), self.task.trim(answers))

    def piece_logits(self, batch: Batch, columns: Int[Tensor, "B N"]) -> Float[Tensor, "B N V"]:
        """Return the logits of these answer tokens, a row of places for each row."""
        logits = self.answer_logits(batch)
        return logits.gather(1, columns[..., None].expand(-1, -1, logits.shape[2]))

    def rewards(
        self,
        batch: Batch,
        columns: Int[Tensor, "B N"],
        pieces: Int[Tensor, "B K N"],
        likelihood: Float[Tensor, "B K"],
    ) -> Float[Tensor, "B K"]:
        """Return R of each piece; `likelihood` is its log π."""
        if self.judge == "model_likelihood":
            return likelihood
        true = pieces == batch.answer.gather(1, columns)[:, None]
        if self.judge == "exact":
            return true.all(2).to(likelihood)
        written = self.write(batch, columns, pieces)
        known = self.task.next_probabilities(written)
        if known is None:
            probability = true.cumprod(2).to(likelihood)
        else:
            at = columns.repeat_interleave(pieces.shape[1], 0)
            known = known.gather(2, written.answer[..., None])[..., 0].gather(1, at).view_as(pieces)
            probability = known.masked_fill(pieces == self.task.dummy, 1.0).to(likelihood)
        return probability.clamp(min=_UNSEEN).log().sum(2)

    def diagnostics(self, batch: Batch, task: Task) -> dict[str, Float[Tensor, " B"]]:
        return sampled_metrics(self, task, batch.prompt, self.samples or 8, 1.0)
