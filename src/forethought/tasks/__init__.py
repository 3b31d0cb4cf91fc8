"""Tasks: one file for each. A task samples rows and judges answers."""

from forethought.tasks.addition import Addition
from forethought.tasks.base import Batch, Task
from forethought.tasks.data import Data, batches, derive, held_out
from forethought.tasks.path_star import PathStar
from forethought.validation import validated_dataclass

__all__ = [
    "Addition",
    "Batch",
    "Data",
    "PathStar",
    "Task",
    "batches",
    "derive",
    "held_out",
    "validated_dataclass",
]
