"""Training FLOPs of the cells of a sweep, counted before they run."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from forethought.hardware.hardware import Precision
from forethought.sweeps import Cell
from forethought.training.build import build
from forethought.training.construct import Config
from forethought.training.flops import count_flops

_T = TypeVar("_T")

_ROWS = 4
GPU_SHARE = 0.15
"""Share of the peak that training is assumed to reach."""
_GPU_PEAK: dict[Precision, float] = {"bf16": 989e12, "fp32": 67e12}

GPU_RATE = {precision: GPU_SHARE * peak for precision, peak in _GPU_PEAK.items()}
"""Assumed FLOP/s of training on one H100 SXM, by precision, of its dense peak (NVIDIA's data sheet).

In bf16, a GPT of 12 × 384 reached 14 % (docs/PERFORMANCE.md). In fp32 the share is an assumption, and the
peak is that of the fp32 units: PyTorch leaves TF32 off, and Forethought does not change that.
"""


@dataclass(frozen=True)
class SweepCost:
    """Training FLOPs of cells to their last step, in the order of the cells."""

    flops: list[float | None]
    """None where the loss cannot be computed outside a Trainer."""
    counted: int
    """Number of cells that were counted. The others have their mean FLOPs a training row."""


def count_sweep(cells: Sequence[Cell], at_most: float) -> SweepCost:
    """Count the training FLOPs of all cells.

    Cells with the same task, model and objective are counted once, whatever their seed.

    Args:
        at_most: seconds after which counting stops. At least one cell is counted.
    """
    kinds = [json.dumps([cell.config[group] for group in ("task", "model", "objective")]) for cell in cells]
    stop_at = time.perf_counter() + at_most
    of_row: dict[str, float | None] = {}
    for kind, cell in in_random_order(dict(zip(kinds, cells, strict=True)).items()):
        if not of_row or time.perf_counter() < stop_at:
            of_row[kind] = _flops_of_row(cell.config)
    known = [flops for flops in of_row.values() if flops is not None]
    mean = sum(known) / len(known) if known else None
    by_row = [of_row.get(kind, mean) for kind in kinds]
    return SweepCost(
        [
            None if flops is None else flops * rows_of_step(cell.config) * cell.config["max_steps"]
            for flops, cell in zip(by_row, cells, strict=True)
        ],
        sum(kind in of_row for kind in kinds),
    )


def in_random_order(entries: Iterable[_T]) -> list[_T]:
    """Return the entries so that the first ones are a fair sample: neighbours in a grid are alike."""
    shuffled = list(entries)
    Random(0).shuffle(shuffled)
    return shuffled


def rows_of_step(config: Config) -> int:
    """Return the training rows of an optimiser step."""
    fixed = config["task"].get("train_samples") or config["batch_size"]
    accumulated: int = config["trainer"].get("accumulate_grad_batches") or 1
    return accumulated * min(config["batch_size"], fixed)


def _flops_of_row(config: Config) -> float | None:
    """Count on a CPU, whatever the hardware of the run, and with few rows."""
    hardware = {"accelerator": "cpu", "devices": 1, "threads": 1, "compile": False}
    small = {**config, "batch_size": _ROWS, "hardware": config["hardware"] | hardware}
    run = build(small)
    batch = run.data.data.batch(0)
    flops = count_flops(run.objective, batch, fake=True)
    return None if flops is None else flops / len(batch)
