"""Estimate the time of a run from a few of its steps."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

from forethought.sweeps import Cell
from forethought.training.build import Config, build, build_settings
from forethought.training.train import Session

_SHORT, _LONG = 4, 12  # steps


def seconds_of_cells(cells: list[Cell], at_most: float) -> float:
    """Estimate the seconds of all cells to their last step. Cells that differ in the seed are probed once.

    Args:
        at_most: seconds of probing after which the mean of the probed cells stands for the rest.
    """
    alike: dict[str, list[Cell]] = {}
    for cell in cells:
        alike.setdefault(json.dumps({**cell.config, "seed": 0}, sort_keys=True), []).append(cell)
    began, measured, total = time.perf_counter(), 0, 0.0
    for group in alike.values():
        if measured and time.perf_counter() - began > at_most:
            break
        total += len(group) * seconds_of_run(group[0].config)
        measured += len(group)
    return total * len(cells) / measured


def seconds_of_run(config: Config) -> float:
    """Return the seconds to `max_steps` with evaluations and test; a solved run stops earlier."""
    settings = build_settings(config)
    with tempfile.TemporaryDirectory() as folder:
        short, long = (_seconds(config, steps, Path(folder, str(steps))) for steps in (_SHORT, _LONG))
    a_step = max(0.0, long - short) / (_LONG - _SHORT)
    an_evaluation = max(0.0, short - _SHORT * a_step)
    # The Clever Hans test decodes every row twice more.
    the_test = 3 * an_evaluation * settings.evaluation.test_samples / settings.evaluation.validation_samples
    return settings.max_steps * (a_step + an_evaluation / settings.eval_every) + the_test


def _seconds(config: Config, steps: int, folder: Path) -> float:
    """Train for so many steps with one evaluation, by the path of every run."""
    changed = {
        "max_steps": steps,
        "eval_every": steps,
        "stop_when_solved": False,
        "logger": {"_target_": None},
    }
    folder.mkdir()
    session = Session(build({**config, **changed}), folder)
    began = time.perf_counter()
    session.fit()
    return time.perf_counter() - began
