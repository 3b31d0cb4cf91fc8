"""Scheduled sampling: next-token prediction from a growing share of the model's own tokens."""

from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field, PositiveInt
from torch import Tensor

from forethought.models import Model
from forethought.objectives.next_token import NextToken
from forethought.tasks import Batch, Task
from forethought.validation import validated


class ScheduledSampling(NextToken):
    """Scheduled sampling: each answer token from the prompt and a mix of true tokens and the model's own.

    With prompt x and answer y_1 … y_A, a first pass samples ŷ_i ~ p(· | x, y_<i); a second one reads
    ỹ_i = ŷ_i with probability ε, else y_i, independently for each token:

        loss = -1/A Σ_i log p(y_i | x, ỹ_<i)            no gradient through ŷ

        input     x_1 … x_P  y_1  ŷ_2  ŷ_3  y_4  …
        target          y_1  y_2  y_3  y_4  y_5  …      always the true ones

    ε grows linearly from 0 over the first `growth_steps` steps of a run and then stays at
    `final_probability`, its value outside a Trainer. Decoded token by token.

    Of the two published versions this is the parallel one, two passes at any length: ŷ_i is drawn
    after the true prefix, not after a mixed one.

    Source: Bengio et al., "Scheduled Sampling" (1506.03099), §2.4; in two passes: Mihaylova & Martins,
    "Scheduled Sampling for Transformers" (1906.07651), §3.

    Args:
        final_probability: final value of ε, in [0, 1].
        growth_steps: optimiser steps over which ε grows.
    """

    @validated
    def __init__(
        self,
        model: Model,
        task: Task,
        final_probability: Annotated[float, Field(ge=0, le=1)] = 0.5,
        growth_steps: PositiveInt = 2000,
    ) -> None:
        super().__init__(model, task)
        self.final_probability, self.growth_steps = final_probability, growth_steps

    @property
    def probability(self) -> float:
        """ε at the current step."""
        if self.steps is None:
            return self.final_probability
        return self.final_probability * min(1.0, self.steps / self.growth_steps)

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        with torch.no_grad():
            sampled = self.sample(self.answer_logits(batch), temperature=1.0)
        swapped = torch.rand(sampled.shape, device=sampled.device) < self.probability
        mixed = Batch(batch.prompt, torch.where(swapped, sampled, batch.answer))
        return self.answer_loss(self.answer_logits(mixed), batch)
