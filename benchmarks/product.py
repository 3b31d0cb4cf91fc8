"""Training by the path of `forethought train`, for the benchmarks."""

from __future__ import annotations

import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from forethought.config import Composer
from forethought.sweeps import Cell
from forethought.training import Session, build

G25 = ["task.degree=2", "task.path_length=5", "task.num_nodes=50"]
_WARM_UP = 3  # steps: the first one compiles


def gpt(layers: int, width: int, heads: int) -> list[str]:
    return [f"model.layers={layers}", f"model.width={width}", f"model.heads={heads}"]


class Product:
    """Trains a cell, again and again from step 0.

    The choices of `hardware=auto` are those of a run of `max_steps` steps (10,000 unless the words say
    otherwise), however few steps are timed.
    """

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        run = build(cell.config)
        self.hardware, self.reason, self.objective = run.hardware, run.hardware_reason, run.objective

    @staticmethod
    def of(*words: str) -> Product:
        """Compose the words of `forethought train`."""
        (cell,) = Composer(["seed=0", *words]).cells()
        return Product(cell)

    def fit(self, steps: int) -> float:
        """Train and return the seconds of `steps` steps, without set-up and the evaluation at the end."""
        return self.fit_rounds(steps, 1)[0]

    def fit_rounds(self, steps: int, rounds: int) -> list[float]:
        """Train once, and return the seconds of each of `rounds` stretches of `steps` steps."""
        total, watch = _WARM_UP + rounds * steps, _StopWatch(_WARM_UP, steps)
        few = self.cell.config["evaluation"] | {"validation_samples": 1}
        short = {"max_steps": total, "eval_every": total, "evaluation": few, "stop_when_solved": False}
        run = build(self.cell.config | short)
        run.hardware = self.hardware
        run.callbacks.append(watch)
        torch.compiler.reset()  # torch.compile gives up after eight models in one process
        with tempfile.TemporaryDirectory() as folder:
            Session(run, Path(folder)).fit()
        return [after - before for before, after in pairwise(watch.times)]


class _StopWatch(pl.Callback):
    """Times at the end of step `first` and of every `steps` steps after it."""

    def __init__(self, first: int, steps: int) -> None:
        self.first, self.steps, self.times = first, steps, list[float]()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        done = trainer.global_step - self.first
        if done >= 0 and done % self.steps == 0:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.times.append(time.perf_counter())
