"""One cell of a sweep as something to send to another process or machine."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.types import TaskFunction
from omegaconf import DictConfig


@dataclass
class Job:
    """Runs a cell, or several as replicas, in the process that calls it.

    The cell is composed there once more: a composed config cannot be sent to another process whole. On
    another machine that wants the same current folder, so a file system that both see.

    Args:
        words: flags and overrides of Hydra's own that all cells share.
    """

    task: TaskFunction
    words: list[str]
    folder: str = field(default_factory=os.getcwd)

    def __call__(self, overrides: Sequence[str]) -> int:
        """The exit code: 0, or 1 if the task says that the cell failed."""
        return self.train([overrides])

    def train(self, cells: Sequence[Sequence[str]]) -> int:
        """Likewise of several cells, whose training goes on at once."""
        from forethought.cli.compose import Composer

        os.chdir(self.folder)
        composer = Composer(["-m", *self.words, "hydra/launcher=basic"])
        done: list[bool] = []

        def run(overrides: Sequence[str]) -> None:
            done.extend(composer.run(self.task, [list(overrides)]))

        if len(cells) == 1:
            run(cells[0])
        else:
            from forethought.run import train_together

            composed = [composer.cell(list(overrides), sweep=True) for overrides in cells]
            train_together(composed, finish=lambda cell: run(cell.overrides))
        return 0 if all(done) else 1

    def checkpoint(self, overrides: Sequence[str]) -> Any:
        """What submitit queues anew when a job's time is over: the same once more, from the last step."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, overrides)


def job_of(task: TaskFunction, config: DictConfig) -> Job:
    """The job of every cell of the sweep with this config."""
    node = config.hydra
    sources = node.runtime.config_sources
    folders = [f"--config-dir={source.path}" for source in sources if source.provider == "command-line"]
    # Whoever chose the cell and sent it is no concern of the process that it has come to.
    own = [word for word in node.overrides.hydra if not re.match(r"[+~]*hydra[/.](launcher|sweeper)", word)]
    return Job(task, [f"--config-name={node.job.config_name}", *folders, *own])


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
