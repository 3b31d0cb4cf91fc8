"""One cell of a sweep as something to send to another process or machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra.core.utils import JobReturn, JobRuntime, JobStatus, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict


@dataclass
class Job:
    """Runs a cell, or several as replicas, in the process that calls it.

    On another machine that wants the same current folder, so a file system that both see.
    """

    task: TaskFunction
    folder: str = field(default_factory=os.getcwd)

    def __call__(self, config: DictConfig) -> int:
        """The exit code: 0, or 1 if the task says that the cell failed."""
        return self.train([config])

    def train(self, configs: Sequence[DictConfig]) -> int:
        """Likewise of several cells, whose training goes on at once."""
        from forethought.cli.compose import cell_of

        os.chdir(self.folder)
        setup_globals()
        JobRuntime.instance().set("name", configs[0].hydra.job.name)
        done: list[bool] = []
        if len(configs) == 1:
            done.append(self._run(configs[0]))
        else:
            from forethought.run import train_together

            cells = [cell_of(config, config.hydra) for config in configs]
            of = {cell.name: config for cell, config in zip(cells, configs, strict=True)}
            train_together(cells, finish=lambda cell: done.append(self._run(of[cell.name])))
        return 0 if all(done) else 1

    def _run(self, config: DictConfig) -> bool:
        """Through Hydra, which writes down what the cell was composed of and sets up its log."""
        context = HydraContext(ConfigLoaderImpl(ConfigSearchPathImpl()), Callbacks(config))
        folders = ("hydra.sweep.dir", "hydra.sweep.subdir")
        done: bool = run_job(self.task, config, *folders, hydra_context=context).return_value  # or raises
        return done

    def checkpoint(self, config: DictConfig) -> Any:
        """What submitit queues anew when a job's time is over: the same once more, from the last step."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, config)


def composed(context: HydraContext, config: DictConfig, cells: Sequence[Sequence[str]]) -> list[DictConfig]:
    """The config of every cell, numbered as Hydra's own launchers do.

    Args:
        config: that of the sweep.
        cells: the overrides of each.
    """
    configs = [context.config_loader.load_sweep_config(config, list(overrides)) for overrides in cells]
    for number, each in enumerate(configs):
        with open_dict(each):
            each.hydra.job.id, each.hydra.job.num = str(number), number
    return configs


def needs(hardware: Any) -> tuple[int, int]:
    """CPU cores and GPUs of one cell. What `accelerator: auto` will find elsewhere cannot be known here."""
    devices = int(hardware.devices)
    threads = 1 if hardware.threads == "auto" else int(hardware.threads)
    return threads * devices, devices if hardware.accelerator == "gpu" else 0


def lost(cells: Sequence[Sequence[str]], reasons: Sequence[str | None]) -> list[JobReturn]:
    """What a launcher returns of each cell: how its process was lost, or None.

    What the cell came to stands in its folder, unless its process could not say so itself.
    """
    return [
        JobReturn(overrides=overrides, _return_value=reason, status=JobStatus.COMPLETED)
        for overrides, reason in zip(cells, reasons, strict=True)
    ]
