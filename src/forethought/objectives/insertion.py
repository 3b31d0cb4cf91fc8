"""Insertion language model (ILM): the answer is written by inserting one token at a time, anywhere."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from forethought.models import Model, OutputLayer
from forethought.objectives.base import Answer, Objective, Prefix, Prompt, sample_token
from forethought.tasks import Batch, Task
from forethought.validation import validated


class Insertion(Objective):
    """Insertion (ILM): dropped answer tokens and their slots, jointly, and whether any is missing.

    Of the n tokens of an answer, k ~ U{0 … n} are drawn and dropped. The model reads the others, z, close
    together; slot j is the place after z_j, and slot 0 the place after the prompt. With s_i the slot where
    the dropped token y_i belongs, and p(slot, token) one softmax over all slots times the vocabulary,

        loss = mean over rows of  -1/k Σ_i log p(s_i, y_i | x, z)          over the dropped i; 0 if k = 0
                                  - log p(missing = [k > 0] | x, z)

        input     x_1 … x_P            y_2   y_4   $   $   $        y_1, y_3 and y_5 were dropped
        target          slot 0: y_1     1: y_3    2: y_5            each with probability 1/3
        missing?                              1                     read at the last token of z

    The attention mask selects what a slot sees. The paper attends fully: `model.mask=full`. The default,
    `causal`, is not its method: there and under `prefix` a slot sees only the tokens to its left.

    Decoded from the bare prompt: each pass inserts the likeliest pair of slot and token, until `missing` is
    improbable or A tokens are written. An answer that stops early is padded with `$`. A `prefix` is read
    from the start, and nothing is inserted into it. The end token of a task is inserted like any token.

    A model that has learned the task inserts the answer's tokens in any order: from the true tokens before
    y_i, all later ones are right as well. Evaluation therefore reads the logits that each token was chosen
    from when it was inserted, and those of the last slot for tokens that were not (`teacher_forced = False`).

    Source: Patel et al., "Insertion Language Models" (2505.05755), §3 and their code. In that code, the
    softmax also covers the slots of the prompt, where decoding forbids insertion; here it does not. There
    `missing` is read by an MLP at an extra first token, here by a linear layer at the last one, which under
    every mask sees all others. Positions are rotary there; here they are those of `model.positions`.
    """

    masks = ("causal", "prefix", "full")
    teacher_forced = False

    @validated
    def __init__(self, model: Model, task: Task) -> None:
        super().__init__(model, task)
        self.missing = OutputLayer(model.width, 1)
        nn.init.normal_(self.missing.weight, std=0.02)
        nn.init.zeros_(self.missing.bias)

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        dropped = self.drop(batch.answer)
        kept = ~dropped & (batch.answer != self.task.dummy)
        slot = kept.cumsum(1) - kept.int()  # of each token: the number of kept tokens before it
        # Move the kept tokens together; all others fall into one more column.
        column = slot.masked_fill(~kept, kept.shape[1])
        read = F.pad(torch.full_like(batch.answer, self.task.dummy), (0, 1))
        read = read.scatter(1, column, batch.answer)[:, :-1]
        log_p, missing = self.predict(batch.prompt, read, kept.sum(1))
        pairs = log_p.flatten(1).gather(1, slot * log_p.shape[2] + batch.answer)
        count = dropped.sum(1)
        insertion = -pairs.where(dropped, 0).sum(1) / count.clamp(min=1)
        return (insertion + F.binary_cross_entropy_with_logits(missing, (count > 0).to(missing))).mean()

    def drop(self, answer: Int[Tensor, "B A"]) -> Bool[Tensor, "B A"]:
        """Return True for each token to drop: k of the n written ones, any k tokens equally likely."""
        written = answer != self.task.dummy
        k = (torch.rand(len(answer), 1, device=answer.device) * (written.sum(1, keepdim=True) + 1)).long()
        rank = torch.rand(answer.shape, device=answer.device).masked_fill(~written, 2).argsort(1).argsort(1)
        return (rank < k) & written

    def predict(
        self, prompt: Prompt, read: Int[Tensor, "B A"], count: Int[Tensor, " B"]
    ) -> tuple[Float[Tensor, "B S V"], Float[Tensor, " B"]]:
        """Return log p(slot, token) of S = A + 1 slots, and the logit of `missing`.

        Args:
            read: the tokens inserted so far, with `$` after them.
            count: their number; the slots after them have probability 0.
        """
        slots = read.shape[1] + 1
        hidden = self.read(torch.cat([prompt, read], 1), prompt, slots)
        logits = self.model.logits(hidden)
        # Autocast does not cover this softmax over two dimensions.
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        beyond = torch.arange(slots, device=count.device) > count[:, None]
        log_p = logits.masked_fill(beyond[..., None], -torch.inf).flatten(1).log_softmax(1)
        last = hidden[torch.arange(len(count), device=count.device), count]
        missing = self.missing(last)[:, 0]
        return log_p.view_as(logits), missing.to(logits.dtype)

    def answer_logits(self, batch: Batch) -> Float[Tensor, "B A V"]:
        length = batch.answer.shape[1]
        answer, count, chosen_from = self.insert(batch.prompt, length)
        log_p, _ = self.predict(batch.prompt, answer, count)
        last = log_p[torch.arange(len(count), device=count.device), count][:, None]
        return chosen_from.where((answer != self.task.dummy)[..., None], last)

    def decode(
        self, prompt: Prompt, length: int, prefix: Prefix | None = None, temperature: float = 0.0
    ) -> Answer:
        return self.insert(prompt, length, prefix, temperature)[0]

    def insert(
        self, prompt: Prompt, length: int, prefix: Prefix | None = None, temperature: float = 0.0
    ) -> tuple[Answer, Int[Tensor, " B"], Float[Tensor, "B A V"]]:
        """Return the answer, its number of tokens, and the log-probabilities that each was chosen from."""
        fixed = 0 if prefix is None else prefix.shape[1]
        answer = prompt.new_full((len(prompt), length), self.task.dummy)
        if prefix is not None:
            answer[:, :fixed] = prefix
        count = prompt.new_full((len(prompt),), fixed)
        chosen_from = torch.zeros(*answer.shape, len(self.task.vocabulary), device=prompt.device)
        rows, columns = (torch.arange(size, device=prompt.device) for size in answer.shape)
        for _ in range(fixed, length):
            log_p, missing = self.predict(prompt, answer, count)
            unfinished = missing > 0  # A finished row reads the same in every pass, and stays as it is.
            pair = sample_token(log_p[:, fixed:, : self.task.dummy].flatten(1), temperature)
            slot, token = fixed + pair // self.task.dummy, pair % self.task.dummy
            # All columns behind the slot move one to the right.
            here = (columns == slot[:, None]) & unfinished[:, None]
            source = columns - ((columns > slot[:, None]) & unfinished[:, None]).long()
            answer = answer.gather(1, source).where(~here, token[:, None])
            chosen_from = torch.where(
                here[..., None], log_p[rows, slot][:, None], chosen_from[rows[:, None], source]
            )
            count = count + unfinished
        return answer, count, chosen_from
