"""Teacherless training: the whole answer, predicted without reading any answer token."""

from typing import Annotated

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from forethought.errors import Impossible
from forethought.models import Model
from forethought.objectives.base import Answer, Prefix, Prompt
from forethought.objectives.next_token import NextToken
from forethought.tasks import Batch, Task
from forethought.validation import validated


class Teacherless(NextToken):
    """Teacherless training: all answer tokens at once, from the prompt and dummy tokens `$`.

    With prompt x and answer y_1 … y_A,

        loss = -1/A Σ_i log p(y_i | x, $_1 … $_{i-1})

        input     x_1 … x_P   $   …   $
        target          y_1  y_2  …  y_A            prompt tokens carry no loss

    No true prefix is read, so there is nothing to cheat from. Decoded in one forward pass. With
    `next_token_weight` w the loss is (1 - w) teacherless + w next-token, and the answer is decoded token
    by token, as in next-token prediction.

    Source: Bachmann & Nagarajan, "The Pitfalls of Next-Token Prediction" (2403.06963), §5, after Monea
    et al. (2311.13581); the hybrid: Nagarajan et al., "Roll the dice" (2504.15266), §3.

    Args:
        next_token_weight: w, in [0, 1).

    Raises:
        Impossible: the model's mask is `full` in the hybrid, where a token would see itself.
    """

    masks = ("causal", "prefix", "full")

    @validated
    def __init__(
        self,
        model: Model,
        task: Task,
        next_token_weight: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    ) -> None:
        super().__init__(model, task)
        self.next_token_weight = next_token_weight
        self.teacher_forced = next_token_weight > 0
        if self.teacher_forced and model.mask == "full":
            raise Impossible(
                f"model.mask=full: not supported with objective.next_token_weight={next_token_weight}, "
                "as every token would see itself; use causal or prefix"
            )

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        logits = self.one_pass_logits(batch.prompt, batch.answer.shape[1])
        loss = self.answer_loss(logits, batch)
        if self.next_token_weight == 0:
            return loss
        return torch.lerp(loss, super().loss(batch), self.next_token_weight)

    def one_pass_logits(self, prompt: Int[Tensor, "B P"], length: int) -> Float[Tensor, "B A V"]:
        dummies = prompt.new_full((len(prompt), length), self.task.dummy)  # The last is not read.
        return super().answer_logits(Batch(prompt, dummies))

    def answer_logits(self, batch: Batch) -> Float[Tensor, "B A V"]:
        if self.teacher_forced:
            return super().answer_logits(batch)
        return self.one_pass_logits(batch.prompt, batch.answer.shape[1])

    def decode(
        self, prompt: Prompt, length: int, prefix: Prefix | None = None, temperature: float = 0.0
    ) -> Answer:
        if self.teacher_forced:
            return super().decode(prompt, length, prefix, temperature)
        return self.sample(self.one_pass_logits(prompt, length), temperature)
