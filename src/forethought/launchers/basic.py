"""`hydra/launcher=basic`: the cells of a sweep one after the other in this process."""

from __future__ import annotations

from forethought.launchers.base import Launcher, OnEnd
from forethought.launchers.work import work
from forethought.sweeps import Cell
from forethought.validation import validated_dataclass


@validated_dataclass
class Basic(Launcher):
    """Runs cells in turn in this process, for debuggers. A killed process costs all that are left."""

    def run(self, cells: list[Cell], on_end: OnEnd) -> None:
        for cell in cells:
            work(cell)
            on_end(cell, None)
