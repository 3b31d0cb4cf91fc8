"""Base of tasks that continue a text: several answers are good, and no token decides."""

import torch
from jaxtyping import Bool
from torch import Tensor

from forethought.tasks.base import Batch, Task


class Continuation(Task):
    """Base of tasks in which no token has to be foreseen."""

    @property
    def decision_chance(self) -> float:
        """1, as no token decides."""
        return 1.0

    @property
    def needs_plan(self) -> bool:
        return False

    def decision_mask(self, batch: Batch) -> Bool[Tensor, "B A"]:
        """Mark no token."""
        return batch.answer.new_zeros(batch.answer.shape, dtype=torch.bool)
