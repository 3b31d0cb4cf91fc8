"""Estimate the time of a run from a few of its steps, or from a few rows if a step takes long."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from torch import nn

from forethought.hardware.hardware import Precision
from forethought.sweeps import Cell
from forethought.training.build import Config, Run, build, build_settings
from forethought.training.cost import SweepCost, in_random_order, rows_of_step
from forethought.training.settings import Settings
from forethought.training.train import Session

_SHORT, _LONG = 4, 12  # steps
_STEPS_SECONDS = 8.0  # A probe of whole steps that would take longer is one of a few rows.
_ROWS_SECONDS = 2.0


def seconds_of_cells(cells: list[Cell], cost: SweepCost, at_most: float) -> float:
    """Estimate the seconds of all cells to their last step. Cells that differ in the seed are probed once.

    Args:
        cost: of the same cells. It decides how a cell is probed.
        at_most: seconds after which probing stops. The others take as long for each training FLOP as the
            probed cells, at least one.
    """
    alike: dict[str, list[int]] = {}
    for number, cell in enumerate(cells):
        alike.setdefault(json.dumps({**cell.config, "seed": 0}, sort_keys=True), []).append(number)
    # Without a count, all cells are alike.
    weights = [flops or 0.0 for flops in cost.flops] if all(cost.flops) else [1.0] * len(cells)
    stop_at, seconds, probed = time.perf_counter() + at_most, 0.0, 0.0
    for group in in_random_order(alike.values()):
        if not probed or time.perf_counter() < stop_at:
            seconds += len(group) * seconds_of_run(cells[group[0]].config, cost.flops[group[0]])
            probed += sum(weights[number] for number in group)
    return seconds * sum(weights) / probed


def seconds_of_run(config: Config, flops: float | None) -> float:
    """Return the seconds to `max_steps` with evaluations and test; a solved run stops earlier.

    Args:
        flops: of its training; None if unknown.
    """
    settings = build_settings(config)
    evaluation, rows = settings.evaluation, settings.max_steps * rows_of_step(config)
    if flops and rows:
        run = build(config)
        run.hardware.set_up(run.objective)
        per_row, rate = flops / rows, _flops_per_second(run.hardware.device, settings.precision)
        # An evaluated row is read three times without gradients: about the work of a training row.
        probe = (_SHORT + _LONG) * rows_of_step(config) + 2 * evaluation.validation_samples
        if probe * per_row > _STEPS_SECONDS * rate:
            few = int(_ROWS_SECONDS * rate / per_row)
            a_row = _seconds_of_rows(run, few) / few if few else per_row / rate
            evaluations = settings.max_steps // settings.eval_every
            rows += evaluations * evaluation.validation_samples + 3 * evaluation.test_samples
            return rows * a_row
    return _seconds_by_steps(config, settings)


def _seconds_by_steps(config: Config, settings: Settings) -> float:
    with tempfile.TemporaryDirectory() as folder:
        short, long = (_seconds_to(config, steps, Path(folder, str(steps))) for steps in (_SHORT, _LONG))
    a_step = max(0.0, long - short) / (_LONG - _SHORT)
    an_evaluation = max(0.0, short - _SHORT * a_step)
    # The Clever Hans test decodes every row twice more.
    the_test = 3 * an_evaluation * settings.evaluation.test_samples / settings.evaluation.validation_samples
    return settings.max_steps * (a_step + an_evaluation / settings.eval_every) + the_test


def _seconds_to(config: Config, steps: int, folder: Path) -> float:
    """Train for so many steps with one evaluation, by the path of every run."""
    changed = {
        "max_steps": steps,
        "eval_every": steps,
        "stop_when_solved": False,
        "logger": {"_target_": None},
    }
    folder.mkdir()
    session = Session(build({**config, **changed}), folder)
    return _seconds(session.fit)


def _seconds_of_rows(run: Run, count: int) -> float:
    """Return the seconds of loss and gradients of at most `count` rows, scaled to `count`."""
    device = run.hardware.device
    batch = run.data.data.batch(0)[:count].to(device)
    objective = run.objective.to(device)

    def train(rows: int) -> None:
        with _autocast(device, run.settings.precision):
            objective.loss(batch[:rows]).backward()
        next(objective.parameters()).sum().item()  # waits for a GPU

    train(1)  # the first pass sets the kernels up
    return _seconds(lambda: train(len(batch))) * count / len(batch)


@cache
def _flops_per_second(device: str, precision: Precision) -> float:
    """Return the rate of this machine as busy as it is now, measured on a small step of an MLP."""
    width, rows = 256, 512
    model = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)).to(device)
    x = torch.ones(rows, width, device=device)

    def train() -> None:
        with _autocast(device, precision):
            model(x).sum().backward()
        next(model.parameters()).sum().item()

    train()
    # The first layer has no gradient by its input: two products forward, three backward.
    return 5 * 2 * rows * 4 * width * width / min(_seconds(train) for _ in range(3))


def _autocast(device: str, precision: Precision) -> torch.autocast:
    return torch.autocast(device.split(":")[0], torch.bfloat16, precision == "bf16")


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
