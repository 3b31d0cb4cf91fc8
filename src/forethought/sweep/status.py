"""Where every cell of a sweep stands, read off the disk."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from forethought.results import read_curves, read_results
from forethought.sweep.grid import read_grid
from forethought.sweep.lock import is_locked
from forethought.sweep.session import read_session

State = Literal["running", "failed", "interrupted", "waiting", "finished"]
STATES: tuple[State, ...] = get_args(State)


@dataclass
class CellStatus:
    """One cell: `waiting` has never begun, `interrupted` has begun, is not done and nobody is at it.

    Args:
        detail: what there is to say about it, in a few words.
        seconds: that a finished cell took, or that a running one will yet take if it is not solved earlier;
            None where unknown.
    """

    name: str
    state: State
    detail: str
    seconds: float | None = None


def sweep_status(sweep: Path, earlier: Sequence[CellStatus] = ()) -> list[CellStatus]:
    """
    Args:
        earlier: an answer from before; what had finished then is not read again.

    Raises:
        InputError: not the folder of a sweep, or a broken results file in it.
    """
    finished = {cell.name: cell for cell in earlier if cell.state == "finished"}
    return [finished.get(name) or cell_status(sweep / name) for name in read_grid(sweep)]


def last_step(folder: Path) -> int:
    """Optimiser steps up to the last evaluation that the run has written down."""
    rows = read_curves(folder / "metrics.csv")
    return int(rows[-1]["step"]) if rows else 0


def cell_status(folder: Path) -> CellStatus:
    results = read_results(folder)
    if results is not None and results.status == "finished":
        accuracy = results.metrics.get("test/accuracy", float("nan"))
        detail = f"{results.verdict}, accuracy {accuracy:.3f}, {results.wall_seconds:.0f} s"
        return CellStatus(folder.name, "finished", detail, results.wall_seconds)
    if is_locked(folder):
        return _running(folder)
    if results is not None and results.status == "failed":
        return CellStatus(folder.name, "failed", results.reason or "")
    if folder.is_dir():
        step = last_step(folder)
        return CellStatus(folder.name, "interrupted", f"step {step}" if step else "no evaluation yet")
    return CellStatus(folder.name, "waiting", "")


def _running(folder: Path) -> CellStatus:
    step, session = last_step(folder), read_session(folder)
    if not step:
        return CellStatus(folder.name, "running", "no evaluation yet")
    if session is None:
        return CellStatus(folder.name, "running", f"step {step}")
    left = session.seconds_left(step, at=(folder / "metrics.csv").stat().st_mtime)
    detail = f"step {step} of {session.last_step}"
    if left is not None:
        detail += f", {duration(left)} left"
    return CellStatus(folder.name, "running", detail, left)


def seconds_left(cells: list[CellStatus]) -> float | None:
    """To the end of a sweep, if as many cells run at a time as now; None where there is nothing to go by.

    A cell that has not begun will take as long as the finished ones took on average.
    """
    taken = [cell.seconds for cell in cells if cell.state == "finished" and cell.seconds is not None]
    running = [cell for cell in cells if cell.state == "running"]
    left = [cell.seconds for cell in running if cell.seconds is not None]
    upcoming = sum(cell.state in ("waiting", "interrupted") for cell in cells)
    if not running or (upcoming and not taken) or (not left and not taken):
        return None
    average = sum(taken) / len(taken) if taken else 0.0
    work = sum(left) + (len(running) - len(left) + upcoming) * average
    return max([work / len(running), *left])


def duration(seconds: float) -> str:
    """In the unit that people would use."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"
