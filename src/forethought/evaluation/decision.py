"""The decision of each row."""

from jaxtyping import Bool
from torch import Tensor

from forethought.tasks import Batch, Task


def decided_rows(task: Task, rows: Batch) -> tuple[Batch, Bool[Tensor, "B A"]]:
    """Return the rows that have a decision token, and the mask of the first one of each."""
    deciding = task.decision_mask(rows)
    decided = deciding.any(1)
    first = deciding & (deciding.cumsum(1) == 1)
    return rows[decided], first[decided]
