"""The base of all launchers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

from forethought.sweeps import Cell

OnEnd = Callable[[Cell, str | None], None]
"""Called with each cell that has ended, and with how its process was lost or None."""


class Launcher(ABC):
    """Runs the cells of a sweep. A subclass is a dataclass: its fields are the keys of its YAML file."""

    elsewhere: ClassVar[bool] = False
    """True if cells run on other machines, whose GPUs are unknown here."""

    def check(self) -> None:  # noqa: B027
        """Check that the launcher can run here.

        Raises:
            InputError: a package or program is missing.
        """

    @abstractmethod
    def run(self, cells: list[Cell], on_end: OnEnd) -> None:
        """Run cells and return when all have ended. Outcomes are in the cells' folders."""


def resources(cell: Cell) -> tuple[int, int]:
    """Return the CPU cores and GPUs of one cell. `accelerator: auto` counts as no GPU elsewhere."""
    hardware: dict[str, Any] = cell.config["hardware"]
    devices = int(hardware["devices"])
    threads = 1 if hardware["threads"] == "auto" else int(hardware["threads"])
    return threads * devices, devices if hardware["accelerator"] == "gpu" else 0
