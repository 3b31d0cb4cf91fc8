"""Masked (absorbing) diffusion of the answer: MLM-U and MGDM."""

from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor

from forethought.models import Model
from forethought.objectives.base import Answer, Objective, Prefix, Prompt, mean_where
from forethought.tasks import Batch, Task
from forethought.validation import validated


class MaskedDiffusion(Objective):
    """Masked diffusion: a random share of the answer tokens, masked, from the prompt and the revealed ones.

    Each answer token is masked by the dummy token `$` with probability r, drawn for each row; the prompt
    is never masked. With ỹ the masked answer and c_i = -log p(y_i | x, ỹ),

        loss = mean of w c_i over the masked tokens of the batch

        uniform (MLM-U)   r ~ U(0, 1)                              w = 1
        mgdm              r = (t + 1) / T,  t ~ U{0 … T-1}         w = (T - t) alpha (1 - e^{-c_i})^gamma

        input     x_1 … x_P  y_1   $   y_3   $      the output at a `$` is the token that it hides:
        target                    y_2       y_4      no shift by one

    The attention mask selects the revealed tokens. Both papers attend fully: `model.mask=full`, where a `$`
    sees all revealed tokens. The default, `causal`, is not their method: there and under `prefix` a `$`
    sees only the tokens to its *left*, so that a token revealed further right never helps. With everything
    masked, the prediction is that of teacherless training.

    Decoded in `steps` passes from an answer that is masked whole: each predicts all masked tokens and
    reveals the most confident ones. A `prefix` is revealed from the start. Evaluation reads the logits of
    the first pass, where all tokens are masked, hence `teacher_forced = False`. Revealed tokens stay: the
    outputs at these had no loss in training. (MGDM's released code predicts them again, shifts by one and
    adds noise to the confidences.)

    Source: Kitouni et al., "The Factorization Curse" (2406.05183) for MLM-U; Ye et al., "Beyond
    Autoregression" (2410.14157) for MGDM.

    Args:
        weighting: `uniform` or `mgdm`, the two rows of the table.
        steps: passes of a decoding; None, or more than the answer has tokens: a token a pass.
        timesteps: T of `mgdm`.
        alpha: factor of all token weights of `mgdm`.
        gamma: strength of the preference of `mgdm` for hard tokens; an integer, as below 1 the gradient
            of a certain token is infinite.
    """

    masks: ClassVar[tuple[str, ...]] = ("causal", "prefix", "full")
    teacher_forced = False

    @validated
    def __init__(
        self,
        model: Model,
        task: Task,
        weighting: Literal["uniform", "mgdm"] = "uniform",
        steps: PositiveInt | None = None,
        timesteps: PositiveInt = 20,
        alpha: Annotated[float, Field(gt=0)] = 0.25,
        gamma: NonNegativeInt = 1,
    ) -> None:
        super().__init__(model, task)
        self.weighting: str = weighting
        self.passes = steps
        self.timesteps = timesteps
        self.alpha = alpha
        self.gamma = gamma

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        answer = self.task.fill(batch.answer)  # padding would tell the length
        masked, time_weight = self.noise(answer)
        losses = self.cross_entropy(self.logits(batch.prompt, answer, masked), answer, "none")
        if self.weighting == "mgdm":
            losses = time_weight * self.alpha * (-torch.expm1(-losses)) ** self.gamma * losses
        return mean_where(losses, masked)

    def noise(self, answer: Int[Tensor, "B A"]) -> tuple[Bool[Tensor, "B A"], Float[Tensor, "B 1"]]:
        """Return True for each token to mask, and the weight T - t of each row (1 for `uniform`)."""
        shape, device = (len(answer), 1), answer.device
        if self.weighting == "uniform":
            rate, weight = torch.rand(shape, device=device), torch.ones(shape, device=device)
        else:
            time = torch.randint(self.timesteps, shape, device=device)
            rate, weight = (time + 1) / self.timesteps, (self.timesteps - time).float()
        return torch.rand(answer.shape, device=device) < rate, weight

    def logits(
        self, prompt: Int[Tensor, "B P"], answer: Int[Tensor, "B A"], masked: Bool[Tensor, "B A"]
    ) -> Float[Tensor, "B A V"]:
        """Return the logits of each answer position, with the `masked` tokens unread."""
        tokens = torch.cat([prompt, answer.masked_fill(masked, self.task.dummy)], 1)
        return self.model.logits(self.read(tokens, prompt, answer.shape[1]))

    def answer_logits(self, batch: Batch) -> Float[Tensor, "B A V"]:
        masked = torch.ones_like(batch.answer, dtype=torch.bool)
        return self.logits(batch.prompt, self.task.fill(batch.answer), masked)

    def decode(
        self, prompt: Prompt, length: int, prefix: Prefix | None = None, temperature: float = 0.0
    ) -> Answer:
        first = 0 if prefix is None else prefix.shape[1]
        answer = prompt.new_full((len(prompt), length), self.task.dummy)
        if prefix is not None:
            answer[:, :first] = prefix
        masked = torch.ones_like(answer, dtype=torch.bool)
        masked[:, :first] = False
        steps = min(self.passes or length, length - first)
        for step in range(1, steps + 1):
            logits = self.logits(prompt, answer, masked)
            tokens = self.sample(logits, temperature)
            answer = torch.where(masked, tokens, answer)
            # Mask the least confident of the new tokens again; their number falls linearly.
            confidence = logits.log_softmax(2).gather(2, tokens[..., None])[..., 0]
            confidence = confidence.masked_fill(~masked, torch.inf)
            count = (length - first) * (steps - step) // steps
            doubtful = confidence.topk(count, largest=False).indices
            masked = torch.zeros_like(masked).scatter(1, doubtful, True)
        return answer
