"""The state of every cell of a sweep, read from disk. The only place for states and time left."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from forethought.results import (
    GRID_FILE,
    read_curves,
    read_grid,
    read_results,
    read_stretches,
    seconds_left,
)
from forethought.sweeps.cell import CELL_FILE
from forethought.sweeps.lock import is_locked

State = Literal["running", "failed", "interrupted", "waiting", "finished"]
STATES: tuple[State, ...] = get_args(State)


@dataclass
class CellStatus:
    """State of one cell: `waiting` has not begun; `interrupted` has begun, has not ended and is not running.

    Args:
        detail: a few words for people.
        seconds: duration of a finished cell, or estimated time left of a running one if it is not solved
            earlier; None if unknown.
    """

    name: str
    state: State
    detail: str
    seconds: float | None = None


def sweep_status(
    sweep: Path, earlier: Sequence[CellStatus] = (), names: Sequence[str] | None = None
) -> list[CellStatus]:
    """Return the state of every cell of a sweep, or of a single run.

    Args:
        earlier: an earlier answer; cells that had finished are not read again.
        names: the cells to look at; all of the grid by default.

    Raises:
        InputError: not the folder of a sweep or run, or a broken results file in it.
    """
    if names is None and not (sweep / GRID_FILE).exists() and is_run(sweep):
        return [cell_status(sweep)]
    finished = {cell.name: cell for cell in earlier if cell.state == "finished"}
    names = list(read_grid(sweep)) if names is None else names
    return [finished.get(name) or cell_status(sweep / name) for name in names]


def is_run(folder: Path) -> bool:
    """Tell whether a run has begun in this folder."""
    return (folder / CELL_FILE).exists() or (folder / "results.json").exists()


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


def last_step(folder: Path) -> int:
    """Return the optimiser steps up to the last evaluation that the run has written."""
    rows = read_curves(folder / "metrics.csv")
    return int(rows[-1]["step"]) if rows else 0


def _running(folder: Path) -> CellStatus:
    step, stretches = last_step(folder), read_stretches(folder)
    if not step or not stretches:
        return CellStatus(folder.name, "running", "no evaluation yet")
    # The clock of a file server may be ahead.
    at = min(time.time(), (folder / "metrics.csv").stat().st_mtime)
    left = seconds_left(stretches[-1], step, at)
    detail = f"step {step} of {stretches[-1].last_step}"
    if left is not None:
        detail += f", {duration(left)} left"
    return CellStatus(folder.name, "running", detail, left)


def sweep_seconds_left(cells: list[CellStatus]) -> float | None:
    """Estimate the seconds until the sweep ends at the current parallelism. None if no timing is available.

    A waiting cell is assumed to take the mean time of the finished ones.
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


def summarise(cells: list[CellStatus]) -> str:
    """Return one line: how many cells are in each state, and the time left."""
    counts = Counter(cell.state for cell in cells)
    order: tuple[State, ...] = ("finished", "failed", "running", "interrupted", "waiting")
    words = [f"{counts[state]} {state}" for state in order if counts[state]]
    left = sweep_seconds_left(cells)
    words += [] if left is None else [f"about {duration(left)} left"]
    return f"{len(cells)} cells: " + ", ".join(words)


def duration(seconds: float) -> str:
    """Format seconds as `40 s`, `12 min` or `3.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"
