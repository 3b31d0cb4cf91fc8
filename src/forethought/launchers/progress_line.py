"""One live line about a sweep below the lines of its cells."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from forethought.sweeps import CellStatus, duration, sweep_seconds_left, sweep_status


def clear_line() -> str:
    """Return the characters that remove the live line from a terminal; nothing elsewhere."""
    return "\r\x1b[K" if sys.stdout.isatty() else ""


class ProgressLine:
    """Prints what jobs print and, on a terminal, one live line below it about the whole sweep.

    Args:
        sweep: its folder.
        names: the cells to run.
    """

    def __init__(self, sweep: Path, names: list[str]) -> None:
        self.sweep, self.names = sweep, names
        self.cells: list[CellStatus] = []

    def print_line(self, line: str) -> None:
        print(clear_line() + line, flush=True)

    def refresh(self) -> None:
        """Read the state of the sweep and print the live line anew."""
        self.cells = sweep_status(self.sweep, self.cells, self.names)
        running = [cell for cell in self.cells if cell.state == "running"]
        left = sweep_seconds_left(self.cells)
        words = [] if left is None else [f"about {duration(left)} left;"]
        words += [", ".join(f"{cell.name} {cell.detail}" for cell in running)]
        print(clear_line() + " ".join(words)[: shutil.get_terminal_size().columns - 1], end="", flush=True)
