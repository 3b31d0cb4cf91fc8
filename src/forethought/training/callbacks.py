"""What happens beside the optimiser steps: reading the loss, evaluating, saving, stopping."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from forethought.evaluation import diagnose
from forethought.objectives import Objective
from forethought.results import write_atomically, write_curves
from forethought.run.settings import Settings
from forethought.sweep import note_signals, noted
from forethought.tasks import Batch, derive

Report = Callable[[int, dict[str, float]], None]


class Progress(pl.Callback):
    """Evaluates and saves every `eval_every` steps and at the end, and stops a run that is solved.

    A run that has had one of `forethought.sweep.SIGNALS` saves and stops after the step that it is in.

    All it knows travels in the checkpoint, so that curves, counters and clock go on after a resume.
    """

    def __init__(self, settings: Settings, validation: Batch, folder: Path, report: Report | None) -> None:
        self.settings, self.validation, self.folder, self.report = settings, validation, folder, report
        self.rows: list[dict[str, float]] = []
        self.steps_to_solve: int | None = None
        self.best_accuracy = -1.0
        self.seconds = 0.0

    @property
    def solved(self) -> bool:
        """Whether there is nothing left to train for."""
        return self.settings.stop_when_solved and self.steps_to_solve is not None

    def state_dict(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "steps_to_solve": self.steps_to_solve,
            "best_accuracy": self.best_accuracy,
            "seconds": self.seconds + time.perf_counter() - self._started,  # of all sessions so far
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name, value in state_dict.items():
            setattr(self, name, value)

    def on_train_start(self, trainer: pl.Trainer, objective: pl.LightningModule) -> None:
        self._started = time.perf_counter()
        note_signals()  # Lightning has just set handlers of its own

    def on_train_batch_start(
        self, trainer: pl.Trainer, objective: pl.LightningModule, batch: Batch, index: int
    ) -> None:
        self.seed_noise(trainer.global_step, trainer.global_rank)

    def seed_noise(self, step: int, rank: int = 0) -> None:
        """Noise inside an objective is a function of (seed, step) too, which makes resuming exact."""
        process = [rank] if rank else []  # of a DDP run: its rows are others, and so is their noise
        seed = derive(self.settings.seed, "noise", step, *process)
        # Not `torch.manual_seed`, which formats the stack for each kind of device that is not there.
        torch.default_generator.manual_seed(seed)
        if torch.cuda.is_initialized():
            torch.cuda.manual_seed_all(seed)

    def due(self, step: int) -> bool:
        """Whether anything is to be read, evaluated or saved after optimiser step `step`, counted from 1."""
        settings = self.settings
        every = (settings.log_every, settings.eval_every, settings.max_steps)
        return any(step % each == 0 for each in every)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        objective: pl.LightningModule,
        outputs: dict[str, Tensor],
        batch: Batch,
        index: int,
    ) -> None:
        step, last = trainer.global_step, trainer.global_step == self.settings.max_steps
        if step % self.settings.log_every == 0 or last:
            self._log(trainer, {"train/loss": self._finite(outputs["loss"], step)})
        if step % self.settings.eval_every == 0 or last:
            improved = self._evaluate(trainer, objective)
            self._save(trainer, improved)
        # All processes of a DDP run stop at the same step, whichever of them had the signal. To ask each
        # other they wait for their devices, so they do it where these are waited for anyway.
        asked = trainer.world_size == 1 or self.due(step)
        if asked and trainer.strategy.reduce_boolean_decision(noted() is not None, all=False):
            self._save(trainer, improved=False)
            trainer.should_stop = True

    def _finite(self, loss: Tensor, step: int) -> float:
        value = loss.item()
        if not math.isfinite(value):
            raise FloatingPointError(f"the training loss became {value} by step {step}")
        return value

    def _log(self, trainer: pl.Trainer, metrics: dict[str, float]) -> None:
        step = trainer.global_step
        if not self.rows or self.rows[-1]["step"] != step:
            self.rows.append({"step": step})
        self.rows[-1].update(metrics)
        if trainer.logger is not None:
            trainer.logger.log_metrics(metrics, step)

    def _evaluate(self, trainer: pl.Trainer, objective: pl.LightningModule) -> bool:
        """Whether the validation accuracy is the best so far."""
        assert isinstance(objective, Objective)
        temperature = self.settings.evaluation.temperature
        metrics = diagnose(objective, self.validation, temperature, clever_hans=False)
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        logged = {f"val/{name}": value for name, value in metrics.items() if "chance" not in name}
        self._log(trainer, {**logged, "train/lr": rate})
        reached = metrics["accuracy"] >= self.settings.solve_threshold
        if reached and self.steps_to_solve is None:
            self.steps_to_solve = trainer.global_step
        trainer.should_stop = trainer.should_stop or self.solved
        if self.report is not None:
            self.report(trainer.global_step, metrics)
        improved = metrics["accuracy"] > self.best_accuracy
        self.best_accuracy = max(metrics["accuracy"], self.best_accuracy)
        return improved

    def _save(self, trainer: pl.Trainer, improved: bool) -> None:
        last, best = (self.folder / "checkpoints" / name for name in ("last.ckpt", "best.ckpt"))
        # Best first: a run killed between the two has the last one before, and comes here again.
        trainer.save_checkpoint(best if improved else last)
        if not trainer.is_global_zero:
            return
        if improved:
            write_atomically(last, best.read_bytes())
        write_curves(self.folder / "metrics.csv", self.rows)
