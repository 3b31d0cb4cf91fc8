"""`hydra/launcher=pool`: the cells of a sweep in isolated processes on this machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig
from pydantic import PositiveInt

from forethought.cli.launchers.job import Job, composed, lost, needs
from forethought.sweep import Progress, run_jobs
from forethought.validation import validated_dataclass


@validated_dataclass
class PoolLauncher(Launcher):
    """Runs every cell in a process of its own (`forethought.sweep.pool`).

    Args:
        workers: processes at a time; None: one for each GPU, or for as many CPU cores as a run has threads.
        stop_after: begin no more cells after this many have failed.
    """

    workers: PositiveInt | None
    stop_after: PositiveInt | None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        job, configs = Job(self.task_function), composed(self.context, self.config, job_overrides)
        groups = together(job_overrides, int(self.config.get("replicas", 1)))
        progress = Progress(Path(str(self.config.hydra.sweep.dir)), len(groups))
        ended = run_jobs(
            [partial(job.train, [configs[index] for index in group]) for group in groups],
            slots(self.config.hardware, self.workers),
            preload=[f"forethought.{name}" for name in ("cli.train", "run", "models", "objectives")],
            stop_after=self.stop_after,
            say=progress.say,
            watch=progress.show if sys.stdout.isatty() else None,
        )
        reasons: list[str | None] = [None] * len(configs)
        for group, end in zip(groups, ended, strict=True):
            for index in group:
                reasons[index] = str(end) if end.exit_code else None
        return lost(job_overrides, reasons)


def together(cells: Sequence[Sequence[str]], replicas: int) -> list[list[int]]:
    """Which cells share a process: up to `replicas` at a time of those that differ in nothing but `seed=`."""
    alike: dict[tuple[str, ...], list[int]] = {}
    for index, overrides in enumerate(cells):
        alike.setdefault(tuple(word for word in overrides if not word.startswith("seed=")), []).append(index)
    return [
        group[first : first + replicas]
        for group in alike.values()
        for first in range(0, len(group), replicas)
    ]


def slots(hardware: Any, workers: int | None) -> list[dict[str, str]]:
    """The environment of each process that runs at a time.

    On GPUs every process sees its own ones alone. With more `workers` than GPUs several share one.
    """
    gpus = _gpus() if hardware.accelerator != "cpu" else []
    if gpus:
        each = int(hardware.devices)
        own = [gpus[first : first + each] for first in range(0, len(gpus) - each + 1, each)]
        count = workers or len(own)
        return [{"CUDA_VISIBLE_DEVICES": ",".join(own[worker % len(own)])} for worker in range(count)]
    cores = len(os.sched_getaffinity(0))
    count = workers or max(1, cores // needs(hardware)[0])
    return [{"OMP_NUM_THREADS": str(max(1, cores // count))} for _ in range(count)]


def _gpus() -> list[str]:
    """Of the GPUs that this process may use, their names for CUDA; asked without taking hold of one."""
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(index) for index in range(torch.cuda.device_count())]
    return names[: torch.cuda.device_count()]
