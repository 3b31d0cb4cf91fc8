"""`hydra/launcher=ray`: each cell of a sweep as a task of Ray."""

from __future__ import annotations

import os
import socket
from importlib.util import find_spec
from typing import Any

from pydantic import Field

from forethought.errors import InputError
from forethought.launchers.base import Launcher, OnEnd, resources
from forethought.launchers.processes import short_temporary_folder
from forethought.launchers.work import work
from forethought.sweeps import Cell
from forethought.validation import validated_dataclass

_SECONDS_TO_ANSWER = 10.0


@validated_dataclass
class Ray(Launcher):
    """Runs every cell as a task of Ray. Tasks end with this process.

    Args:
        init: arguments of `ray.init`.
        remote: arguments of `ray.remote`.
    """

    init: dict[str, Any] = Field(default_factory=dict)
    remote: dict[str, Any] = Field(default_factory=dict)

    elsewhere = True

    def check(self) -> None:
        if find_spec("ray") is None:
            raise InputError("hydra/launcher=ray: ray is missing; run pip install -e '.[ray]'")
        given = self.init.get("address")
        address = str(given or os.environ.get("RAY_ADDRESS", ""))
        host, _, port = address.rpartition("://")[2].partition(":")
        if port.isdecimal():
            try:
                socket.create_connection((host, int(port)), _SECONDS_TO_ANSWER).close()
            except OSError as error:  # ray.init would try for minutes
                word = f"{'hydra.launcher.init.address' if given else 'RAY_ADDRESS'}={address}"
                raise InputError(f"{word}: no Ray answers there ({error}); start one, or unset it") from None

    def run(self, cells: list[Cell], on_end: OnEnd) -> None:
        import ray

        cpus, gpus = resources(cells[0])
        chosen = {name: value for name, value in self.remote.items() if value is not None}
        # Ray puts sockets into folders with long names in the temporary folder.
        os.environ.setdefault("RAY_TMPDIR", short_temporary_folder(room=70))
        ray.init(**self.init)
        try:
            remote = ray.remote(**{"num_cpus": cpus, "num_gpus": gpus, **chosen})(work)
            tasks = {remote.remote(cell, os.getcwd()): cell for cell in cells}
            waiting = list(tasks)
            while waiting:
                (task, *_), waiting = ray.wait(waiting)
                on_end(tasks[task], _loss(task))
        finally:
            ray.shutdown()


def _loss(task: Any) -> str | None:
    """Return how the process of a task was lost, or None."""
    import ray

    try:
        ray.get(task)
    except ray.exceptions.RayError as error:
        return f"{type(error).__name__}: {str(error).strip().splitlines()[-1]}"
    return None
