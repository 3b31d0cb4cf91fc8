"""`hydra/launcher=pool`: the cells of a sweep in isolated processes on this machine."""

from __future__ import annotations

import os
import sys
from functools import partial

from pydantic import PositiveInt

from forethought.hardware import POOL_SHARE, available_cores
from forethought.launchers.base import Launcher, OnEnd, resources
from forethought.launchers.progress_line import ProgressLine
from forethought.launchers.work import work
from forethought.processes import ProcessEnd, run_processes
from forethought.sweeps import Cell
from forethought.validation import validated_dataclass


@validated_dataclass
class Pool(Launcher):
    """Runs every cell in a process of its own (`forethought.processes`).

    Args:
        workers: processes at a time; None: one for each GPU, or for as many CPU cores as a run has threads.
            With more workers than GPUs, several share one.
        stop_after: start no more cells after this many have failed.
    """

    workers: PositiveInt | None = None
    stop_after: PositiveInt | None = None

    def run(self, cells: list[Cell], on_end: OnEnd) -> None:
        line = ProgressLine(cells[0].folder.parent, [cell.name for cell in cells])

        def ended(index: int, end: ProcessEnd) -> None:
            on_end(cells[index], str(end) if end.exit_code else None)

        run_processes(
            [partial(work, cell) for cell in cells],
            slots(cells[0], self.workers),
            stop_after=self.stop_after,
            print_line=line.print_line,
            watch=line.refresh if sys.stdout.isatty() else None,
            on_end=ended,
        )


def slots(cell: Cell, workers: int | None) -> list[dict[str, str]]:
    """Return the environment of each process that runs at a time. On GPUs it selects the process's own."""
    hardware = cell.config["hardware"]
    gpus = _gpus() if hardware["accelerator"] != "cpu" else []
    if gpus:
        size = int(hardware["devices"])
        shares = [gpus[first : first + size] for first in range(0, len(gpus) - size + 1, size)]
        count = workers or len(shares)
        return [{"CUDA_VISIBLE_DEVICES": ",".join(shares[worker % len(shares)])} for worker in range(count)]
    cores = available_cores()
    count = workers or max(1, cores // resources(cell)[0])
    return [{POOL_SHARE: str(max(1, cores // count))} for _ in range(count)]


def _gpus() -> list[str]:
    """Return the names for CUDA of the GPUs that this process may use, without initialising one."""
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(index) for index in range(torch.cuda.device_count())]
    return names[: torch.cuda.device_count()]
