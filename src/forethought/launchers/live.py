"""One line on where a sweep stands, while it runs."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

from forethought.sweep.grid import read_grid
from forethought.sweep.lock import is_locked
from forethought.sweep.status import last_step


def clear() -> str:
    """What removes the live line from a terminal, before anything else is printed; nothing elsewhere."""
    return "\r\x1b[K" if sys.stdout.isatty() else ""


class Progress:
    """Prints what jobs say and, on a terminal, one live line below it about the whole sweep.

    Args:
        sweep: its folder.
        jobs: how many cells there were to run.
    """

    def __init__(self, sweep: Path, jobs: int) -> None:
        self.sweep, self.jobs = sweep, jobs
        self.began = time.monotonic()

    def say(self, line: str) -> None:
        print(clear() + line, flush=True)

    def show(self, waiting: int, running: int) -> None:
        """
        Args:
            waiting: jobs that have not begun.
            running: jobs that have begun and not ended.
        """
        # By their locks: the results of a thousand finished cells are not read every two seconds.
        now = [name for name in read_grid(self.sweep) if is_locked(self.sweep / name)]
        words = ", ".join(f"{name} step {last_step(self.sweep / name)}" for name in now)
        line = f"[{self.jobs - waiting - running}/{self.jobs}] {self._left(waiting, running)}{words}"
        print(clear() + line[: shutil.get_terminal_size().columns - 1], end="", flush=True)

    def _left(self, waiting: int, running: int) -> str:
        """By the time that the jobs before took; nothing is said before the first is done."""
        done = self.jobs - waiting - running
        if not done:
            return ""
        minutes = (time.monotonic() - self.began) / (done + running / 2) * (waiting + running / 2) / 60
        return f"about {minutes:.0f} min left; "
