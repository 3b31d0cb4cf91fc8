"""`hydra/launcher=ray`: each cell of a sweep as a task of Ray."""

from __future__ import annotations

import os
import socket
from importlib.util import find_spec
from typing import Any

from pydantic import Field

from forethought.errors import InputError, first_line
from forethought.launchers.base import Launcher, OnEnd, resources
from forethought.launchers.work import work
from forethought.processes import short_temporary_folder
from forethought.sweeps import Cell
from forethought.validation import validated_dataclass

_SECONDS_TO_ANSWER = 10.0
_CLIENT_PORT = 10001  # of ray://HOST


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
        word, address = self._address
        scheme, host, port = _parse(address)
        if address in ("", "auto", "local"):
            return
        if not (scheme or port):
            raise InputError(f"{word}: not an address; use HOST:PORT, ray://HOST:PORT, auto or local")
        if port or scheme == "ray":
            try:
                _greet(host, int(port or _CLIENT_PORT))
            except (OSError, OverflowError) as error:  # ray.init would try for minutes
                raise InputError(f"{word}: no Ray answers there ({error}); start one, or unset it") from None

    @property
    def _address(self) -> tuple[str, str]:
        """The address of a running Ray as KEY=VALUE and by itself, which is empty if there is none."""
        key, address = "hydra.launcher.init.address", str(self.init.get("address") or "")
        if address in ("", "auto") and (surrounding := os.environ.get("RAY_ADDRESS")):  # as ray.init does
            key, address = "RAY_ADDRESS", surrounding
        return f"{key}={address}", address

    def run(self, cells: list[Cell], on_end: OnEnd) -> None:
        import ray

        cpus, gpus = resources(cells[0])
        chosen = {name: value for name, value in self.remote.items() if value is not None}
        # Ray puts sockets into folders with long names in the temporary folder.
        os.environ.setdefault("RAY_TMPDIR", short_temporary_folder(room=70))
        word, address = self._address
        try:
            ray.init(**self.init)
        except Exception as error:  # ray has many, by the kind of address
            if not address:
                raise
            raise InputError(
                f"{word}: Ray cannot be reached ({first_line(error)}); start one, or unset it"
            ) from None
        try:
            remote = ray.remote(**{"num_cpus": cpus, "num_gpus": gpus, **chosen})(work)
            tasks = {remote.remote(cell, os.getcwd()): cell for cell in cells}
            waiting = list(tasks)
            while waiting:
                (task, *_), waiting = ray.wait(waiting)
                on_end(tasks[task], _loss(task))
        finally:
            ray.shutdown()


def _parse(address: str) -> tuple[str, str, str]:
    """Return scheme, host and port of `[SCHEME://]HOST[:PORT][/…]`; empty where there is none."""
    scheme, _, place = address.rpartition("://")
    host, _, port = place.partition("/")[0].rpartition(":")
    if not port.isdecimal():
        host, port = place, ""
    return scheme, host.strip("[]"), port


def _greet(host: str, port: int) -> None:
    """
    Raises:
        OSError: nobody answers at this address as gRPC does, which Ray speaks.
    """
    with socket.create_connection((host, port), _SECONDS_TO_ANSWER) as connection:
        if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
            return
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
        if connection.recv(9)[3:4] != b"\4":  # an HTTP/2 server begins with its settings
            raise OSError("another service listens there")


def _loss(task: Any) -> str | None:
    """Return how the process of a task was lost, or None."""
    import ray

    try:
        ray.get(task)
    except ray.exceptions.RayError as error:
        return f"{type(error).__name__}: {str(error).strip().splitlines()[-1]}"
    return None
