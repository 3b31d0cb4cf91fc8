"""One cell, come what may: train it, and leave a results file that says how it went."""

from __future__ import annotations

import logging
import platform
import sys
import time
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from torch.multiprocessing import ProcessRaisedException

from forethought import __version__
from forethought.errors import InputError
from forethought.results import RESULTS_FILE, Results, read_results, write_atomically
from forethought.run.build import construct
from forethought.run.progress import Report
from forethought.run.train import train
from forethought.sweep import SESSION_FILE, Cell, Locked, lock, noted_signals

log = logging.getLogger(__name__)


def run_cell(cell: Cell, report: Report | None = None, progress_bar: bool = False) -> Results:
    """Run a cell unless it has finished already; a failure ends in its results file, not in an exception.

    Raises:
        Locked: another process is at it.
        KeyboardInterrupt: after the results file says so; so, too, with the signals in `SIGNALS`, which
            wait for the end of a step of training.
    """
    with lock(cell.folder), noted_signals():
        earlier = read_results(cell.folder)
        if earlier is not None and earlier.status == "finished":
            return earlier
        for left_over in (RESULTS_FILE, SESSION_FILE):
            (cell.folder / left_over).unlink(missing_ok=True)
        log.info("%s", cell.name)
        started = time.perf_counter()
        try:
            dashboard = construct(cell.config, "logger").open(cell)
            with dashboard as opened:
                outcome = train(cell.config, cell.folder, opened.lightning, report, progress_bar)
                results = _results(cell, status="finished", **asdict(outcome))
                opened.summarise(results)
            _write(cell, results)
        except KeyboardInterrupt as stop:
            reason = str(stop) or "stopped by Ctrl-C"
            log.warning("interrupted: %s", reason)
            _write(cell, _unfinished(cell, "interrupted", reason, started))
            raise
        except Exception as error:
            log.exception("failed")
            results = _unfinished(cell, "failed", _reason(error), started)
            _write_if_possible(cell, results)
        log.info("%s %s", results.status, results.reason or results.verdict)
        return results


def _reason(error: Exception) -> str:
    """In one line. Of a process of a DDP run the traceback is handed on, whose last line is the reason."""
    if isinstance(error, ProcessRaisedException):
        return str(error).strip().splitlines()[-1]
    kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
    return f"{kind}{error}".splitlines()[0]


def record(cell: Cell, status: str, reason: str) -> None:
    """Leave word of a cell that left none itself, unless another process is at work on it."""
    try:
        with lock(cell.folder):
            if not (cell.folder / RESULTS_FILE).exists():
                _write_if_possible(cell, _unfinished(cell, status, reason, time.perf_counter()))
    except Locked:
        pass


def _write(cell: Cell, results: Results) -> None:
    write_atomically(cell.folder / RESULTS_FILE, results.model_dump_json(indent=2) + "\n")


def _write_if_possible(cell: Cell, results: Results) -> None:
    """On a disk so full that this fails too, the other cells and the last word matter more."""
    try:
        _write(cell, results)
    except OSError as error:
        print(f"{cell.name}: {results.reason}; not written down: {error}", file=sys.stderr)


def _unfinished(cell: Cell, status: str, reason: str, started: float) -> Results:
    seconds = round(time.perf_counter() - started, 3)
    return _results(
        cell, status=status, reason=reason, wall_seconds=seconds, device=platform.processor() or "cpu"
    )


def _results(cell: Cell, **fields: Any) -> Results:
    return Results(
        cell=cell.name,
        sweep=cell.sweep,
        choices=cell.choices,
        overrides=cell.overrides,
        config=cell.config,
        seed=cell.config["seed"],
        versions={
            "python": sys.version.split()[0],
            "torch": version("torch"),
            "lightning": version("lightning"),
            "forethought": __version__,
        },
        **fields,
    )
