"""Where every cell of a sweep stands, read off the disk."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from forethought.results import read_curves, read_results
from forethought.sweep.grid import read_grid
from forethought.sweep.lock import is_locked


@dataclass
class CellStatus:
    """One cell: `waiting` has never begun, `interrupted` has begun, is not done and nobody is at it."""

    name: str
    state: Literal["finished", "failed", "running", "interrupted", "waiting"]
    detail: str


def sweep_status(sweep: Path) -> list[CellStatus]:
    """
    Raises:
        InputError: not the folder of a sweep, or a broken results file in it.
    """
    return [cell_status(sweep / name) for name in read_grid(sweep)]


def last_step(folder: Path) -> int:
    """Optimiser steps up to the last evaluation that the run has written down."""
    rows = read_curves(folder / "metrics.csv")
    return int(rows[-1]["step"]) if rows else 0


def cell_status(folder: Path) -> CellStatus:
    results = read_results(folder)
    if results is not None and results.status == "finished":
        accuracy = results.metrics.get("test/accuracy", float("nan"))
        detail = f"{results.verdict}, accuracy {accuracy:.3f}, {results.wall_seconds:.0f} s"
        return CellStatus(folder.name, "finished", detail)
    step = last_step(folder)
    reached = f"step {step}" if step else "no evaluation yet"
    if is_locked(folder):
        return CellStatus(folder.name, "running", reached)
    if results is not None and results.status == "failed":
        return CellStatus(folder.name, "failed", results.reason or "")
    if folder.is_dir():
        return CellStatus(folder.name, "interrupted", reached)
    return CellStatus(folder.name, "waiting", "")
