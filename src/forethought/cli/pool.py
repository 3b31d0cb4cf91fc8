"""`hydra/launcher=pool`: the cells of a sweep in isolated processes on this machine."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from forethought.errors import InputError
from forethought.sweep import Progress, run_jobs

POOL = "hydra_plugins.forethought_pool.Pool"
"""The class under which Hydra knows it."""


class PoolLauncher(Launcher):
    """Runs every cell in a process of its own (`forethought.sweep.pool`).

    Args:
        workers: processes at a time; None: one for each GPU, or for as many CPU cores as a run has threads.
        stop_after: begin no more cells after this many have failed.
    """

    def __init__(self, workers: int | None = None, stop_after: int | None = None) -> None:
        self.workers, self.stop_after = workers, stop_after

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.task_function, self.config = task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        node = self.config.hydra
        sweep = Path(str(node.sweep.dir))
        own = [word for word in node.overrides.hydra if not re.match(r"[+~]*hydra[/.]launcher", word)]
        words = [f"--config-name={node.job.config_name}", *_config_dirs(node), *own]
        groups = together(job_overrides, int(self.config.replicas))
        jobs = [
            partial(_run, self.task_function, words, [list(job_overrides[index]) for index in group])
            for group in groups
        ]
        progress = Progress(sweep, len(jobs))
        ended = run_jobs(
            jobs,
            slots(self.config.hardware, self.workers),
            preload=["forethought.run"],
            stop_after=self.stop_after,
            say=progress.say,
            watch=progress.show if sys.stdout.isatty() else None,
        )
        # What a cell came to stands in its folder; how its process ended is all that there is to return.
        ends = {index: end for group, end in zip(groups, ended, strict=True) for index in group}
        return [
            JobReturn(overrides=overrides, _return_value=ends[index], status=JobStatus.COMPLETED)
            for index, overrides in enumerate(job_overrides)
        ]


def together(job_overrides: Sequence[Sequence[str]], replicas: int) -> list[list[int]]:
    """Which cells share a process: up to `replicas` at a time of those that differ in nothing but `seed=`."""
    alike: dict[tuple[str, ...], list[int]] = {}
    for index, overrides in enumerate(job_overrides):
        alike.setdefault(tuple(word for word in overrides if not word.startswith("seed=")), []).append(index)
    return [
        group[first : first + replicas]
        for group in alike.values()
        for first in range(0, len(group), replicas)
    ]


def check_pool(options: Any) -> None:
    """
    Raises:
        InputError: an option of `hydra.launcher` that no pool can have.
    """
    for name in ("workers", "stop_after"):
        value = options[name]
        if value is not None and not (isinstance(value, int) and value >= 1):
            raise InputError(f"hydra.launcher.{name}={value}: expected a whole number from 1, or null")


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
    threads = 1 if hardware.threads == "auto" else int(hardware.threads)
    count = workers or max(1, cores // (threads * int(hardware.devices)))
    return [{"OMP_NUM_THREADS": str(max(1, cores // count))} for _ in range(count)]


def _gpus() -> list[str]:
    """Of the GPUs that this process may use, their names for CUDA; asked without taking hold of one."""
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(index) for index in range(torch.cuda.device_count())]
    return names[: torch.cuda.device_count()]


def _config_dirs(node: Any) -> list[str]:
    sources = node.runtime.config_sources
    return [f"--config-dir={source.path}" for source in sources if source.provider == "command-line"]


def _run(task: TaskFunction, words: list[str], cells: list[list[str]]) -> int:
    """In a process of its own: exit code 0, or 1 if the task says of a cell that it failed.

    The cells are composed here again: a composed config cannot be sent to another process whole.
    """
    from forethought.cli.compose import Composer

    composer = Composer(["-m", *words, "hydra/launcher=basic"])
    if len(cells) == 1:
        return 0 if composer.run(task, cells)[0] else 1
    from forethought.run import train_together

    done: list[bool] = []
    train_together(
        [composer.cell(overrides, sweep=True) for overrides in cells],
        finish=lambda cell: done.extend(composer.run(task, [cell.overrides])),
    )
    return 0 if all(done) else 1
