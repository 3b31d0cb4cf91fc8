"""`hydra/launcher=submitit_slurm` and `submitit_local`: each cell of a sweep as a job of submitit."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from pydantic import NonNegativeInt, PositiveInt

from forethought.errors import InputError
from forethought.launchers.base import Launcher, OnEnd, resources
from forethought.launchers.work import work
from forethought.sweeps import Cell
from forethought.validation import validated_dataclass

_OF_SLURM = (
    *("signal_delay_s", "partition", "account", "qos", "constraint"),
    *("array_parallelism", "additional_parameters"),
)


@validated_dataclass
class Submitit(Launcher):
    """Submits every cell as a job and waits for all. Interrupting the wait leaves the jobs running.

    Args: as in conf/hydra/launcher/submitit_slurm.yaml.
    """

    cluster: Literal["slurm", "local"]
    submitit_folder: str
    timeout_min: PositiveInt
    max_num_timeout: NonNegativeInt
    gpus_per_node: NonNegativeInt | None
    cpus_per_task: PositiveInt | None = None
    mem_gb: PositiveInt | None = None
    name: str | None = None
    signal_delay_s: PositiveInt | None = None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    array_parallelism: PositiveInt | None = None
    setup_commands: list[str] | None = None
    additional_parameters: dict[str, Any] | None = None

    elsewhere = True

    def check(self) -> None:
        name = f"hydra/launcher=submitit_{self.cluster}"
        if find_spec("submitit") is None:
            raise InputError(f"{name}: submitit is missing; run pip install -e '.[slurm]'")
        if self.cluster == "slurm" and shutil.which("srun") is None:
            raise InputError(f"{name}: srun is missing; use a machine that submits to Slurm")
        path = str(Path(self.submitit_folder).absolute())
        if path.count("%") > 1 or path.replace("%j", "").count("%"):
            raise InputError(
                f"hydra.launcher.submitit_folder={self.submitit_folder}: Slurm replaces % and the letter "
                "after it; use one %j, for the number of the job, and folders without %"
            )

    def run(self, cells: list[Cell], on_end: OnEnd) -> None:
        from submitit import AutoExecutor
        from submitit.core.utils import FailedJobError

        cluster = self.cluster
        executor = AutoExecutor(
            self.submitit_folder, cluster, **{f"{cluster}_max_num_timeout": self.max_num_timeout}
        )
        executor.update_parameters(**self._parameters(cells[0]))
        try:
            jobs = executor.map_array(_Work(os.getcwd()), cells)
        except FailedJobError as error:
            said = str(error).strip().splitlines()[-1]
            raise InputError(f"hydra/launcher=submitit_{cluster}: sbatch rejects the job: {said}") from None
        print(f"{len(jobs)} jobs of submitit ({cluster}), from {jobs[0].job_id}; waiting for them")
        for cell, job in zip(cells, jobs, strict=True):
            on_end(cell, _loss(job))

    def _parameters(self, cell: Cell) -> dict[str, Any]:
        cpus, gpus = resources(cell)
        shared = {
            "name": self.name,
            "timeout_min": self.timeout_min,
            "cpus_per_task": self.cpus_per_task or cpus,
            "gpus_per_node": (gpus if self.gpus_per_node is None else self.gpus_per_node) or None,
            "mem_gb": self.mem_gb,
        }
        own = {f"slurm_{name}": getattr(self, name) for name in _OF_SLURM}
        given = {**shared, **own, "slurm_setup": self.setup_commands}
        return {name: value for name, value in given.items() if value is not None}


class _Work:
    """Runs a cell in a job of submitit.

    Args:
        folder: the current folder of the command.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __call__(self, cell: Cell) -> int:
        return work(cell, self.folder)

    def checkpoint(self, cell: Cell) -> Any:
        """Return what submitit requeues when the time of a job is over: the same cell, from its last step."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, cell)


def _loss(job: Any) -> str | None:
    """Wait for a job. Return how its process was lost, or None."""
    from submitit.core.utils import UncompletedJobError

    try:
        job.result()
    except UncompletedJobError:
        return f"its job {job.job_id} ended without results, in state {job.state}; see {job.paths.stderr}"
    except Exception as error:
        return str(error).strip().splitlines()[-1]
    return None
