"""Where the curves go besides metrics.csv."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from forethought.results import Results
from forethought.sweep import Cell
from forethought.validation import validated_dataclass


class Dashboard:
    """An open place for curves: a logger for Lightning and a last word. This one is none at all."""

    lightning: Any = None

    def summarise(self, results: Results) -> None:
        pass


@validated_dataclass
class CSV:
    """Nothing but metrics.csv, which every run writes."""

    @contextmanager
    def open(self, cell: Cell) -> Iterator[Dashboard]:
        """Around one run."""
        yield Dashboard()

    @contextmanager
    def sweep(self, name: str, folder: Path) -> Iterator[None]:
        """Around all the runs of a sweep, in the process that starts them."""
        yield
