"""`hydra/launcher=submitit_slurm` and `submitit_local`: each cell of a sweep as a job of submitit."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, Literal

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig
from pydantic import NonNegativeInt, PositiveInt

from forethought.cli.launchers.job import Job, composed, lost, needs
from forethought.errors import InputError
from forethought.validation import validated_dataclass

_OF_SLURM = (
    *("signal_delay_s", "partition", "account", "qos", "constraint"),
    *("array_parallelism", "additional_parameters"),
)


@validated_dataclass
class SubmititLauncher(Launcher):
    """Submits every cell as a job and waits for all; whoever stops waiting leaves the jobs running.

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

    def check(self) -> None:
        """
        Raises:
            InputError: submitit or Slurm is not there.
        """
        name = f"hydra/launcher=submitit_{self.cluster}"
        if find_spec("submitit") is None:
            raise InputError(f"{name}: submitit is missing; expected `pip install forethought[slurm]`")
        if self.cluster == "slurm" and shutil.which("srun") is None:
            raise InputError(f"{name}: there is no srun here; expected a machine that submits to Slurm")

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from submitit import AutoExecutor
        from submitit.core.utils import FailedJobError

        cluster = self.cluster
        executor = AutoExecutor(
            self.submitit_folder, cluster, **{f"{cluster}_max_num_timeout": self.max_num_timeout}
        )
        executor.update_parameters(**self._parameters())
        configs = composed(self.context, self.config, job_overrides)
        try:
            jobs = executor.map_array(Job(self.task_function), configs)
        except FailedJobError as error:
            said = str(error).strip().splitlines()[-1]
            raise InputError(
                f"hydra/launcher=submitit_{cluster}: {said}; expected what sbatch takes"
            ) from None
        print(f"{len(jobs)} jobs of submitit ({cluster}), from {jobs[0].job_id}; waiting for them")
        return lost(job_overrides, [_how_lost(each) for each in jobs])

    def _parameters(self) -> dict[str, Any]:
        cpus, gpus = needs(self.config.hardware)
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


def _how_lost(job: Any) -> str | None:
    """Waits for the job."""
    from submitit.core.utils import UncompletedJobError

    try:
        job.result()
    except UncompletedJobError:
        return f"its job {job.job_id} ended without a word, in state {job.state}; see {job.paths.stderr}"
    except Exception as error:
        return str(error).strip().splitlines()[-1]
    return None
