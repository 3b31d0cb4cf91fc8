"""`hydra/launcher=ray`: each cell of a sweep as a task of Ray."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from forethought.cli.launchers.job import Job, composed, lost, needs
from forethought.errors import InputError
from forethought.validation import validated_dataclass


@validated_dataclass
class RayLauncher(Launcher):
    """Runs every cell as a task of Ray; tasks end with this process.

    Args:
        init: arguments of `ray.init`.
        remote: arguments of `ray.remote`.
    """

    init: dict[str, Any]
    remote: dict[str, Any]

    def check(self) -> None:
        """
        Raises:
            InputError: Ray is not there.
        """
        if find_spec("ray") is None:
            raise InputError("hydra/launcher=ray: ray is missing; expected `pip install forethought[ray]`")

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        import ray

        cpus, gpus = needs(self.config.hardware)
        chosen = {name: value for name, value in self.remote.items() if value is not None}
        ray.init(**self.init)
        try:
            remote = ray.remote(**{"num_cpus": cpus, "num_gpus": gpus, **chosen})(_run)
            job, configs = Job(self.task_function), composed(self.context, self.config, job_overrides)
            tasks = [remote.remote(job, config) for config in configs]
            return lost(job_overrides, [_how_lost(task) for task in tasks])
        finally:
            ray.shutdown()


def _run(job: Job, config: DictConfig) -> int:
    return job(config)


def _how_lost(task: Any) -> str | None:
    """Waits for the task."""
    import ray

    try:
        ray.get(task)
    except ray.exceptions.RayError as error:
        return f"{type(error).__name__}: {str(error).strip().splitlines()[-1]}"
    return None
