"""One line on where a sweep stands, while it runs."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

from forethought.sweep.status import sweep_status

_CLEAR = "\r\x1b[K"


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
        clear = _CLEAR if sys.stdout.isatty() else ""
        print(clear + line, flush=True)

    def show(self, waiting: int, running: int) -> None:
        """
        Args:
            waiting: jobs that have not begun.
            running: jobs that have begun and not ended.
        """
        now = [cell for cell in sweep_status(self.sweep) if cell.state == "running"]
        words = ", ".join(f"{cell.name} {cell.detail}" for cell in now)
        line = f"[{self.jobs - waiting - running}/{self.jobs}] {self._left(waiting, running)}{words}"
        print(_CLEAR + line[: shutil.get_terminal_size().columns - 1], end="", flush=True)

    def _left(self, waiting: int, running: int) -> str:
        """By the time that the jobs before took; nothing is said before the first is done."""
        done = self.jobs - waiting - running
        if not done:
            return ""
        minutes = (time.monotonic() - self.began) / (done + running / 2) * (waiting + running / 2) / 60
        return f"about {minutes:.0f} min left; "
