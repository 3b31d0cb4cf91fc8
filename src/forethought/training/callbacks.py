"""Callbacks of `forethought train`: our part of the checkpoint, signals, and progress for people."""

from __future__ import annotations

import logging
import math
import signal
import sys
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, RichProgressBar
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from forethought.errors import InputError
from forethought.loggers import CurvesLogger
from forethought.sweeps import Stopped, install_deferring_handlers, pending_signal
from forethought.training.checkpoint import STATE_KEY, STATE_VERSION, AtomicCheckpoints
from forethought.training.settings import Settings

log = logging.getLogger(__name__)

_EVERY = 30.0  # seconds between two lines where there is no terminal
_ANY_SIGNAL = signal.SIGTERM  # for a rank that stops because another one received a signal


class RunState(pl.Callback):
    """Steps and time to solve, and training time of a run: in every checkpoint, under the key `forethought`.

    A run that receives one of `forethought.sweeps.SIGNALS` saves a checkpoint after its current step and
    stops. Lightning's own SIGTERM handling would lose the steps since the last evaluation.
    """

    def __init__(self, settings: Settings, goal: str, curves: CurvesLogger, folder: Path) -> None:
        self.settings, self.goal, self.curves, self.folder = settings, goal, curves, folder
        self.steps_to_solve: int | None = None
        self.seconds_to_solve: float | None = None
        self.solved = False
        """True if training ends because the run is solved."""
        self.seconds = 0.0
        self.optimizer: str | None = None
        """Class of the optimizer that the objective configured; None before training."""
        self._started = time.perf_counter()
        self._steps = 0
        self._told_of_no_loss = False

    def restore(self, checkpoint: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        state = checkpoint[STATE_KEY]
        self.steps_to_solve, self.seconds = state["steps_to_solve"], state["seconds"]
        self.seconds_to_solve = state.get("seconds_to_solve")
        self.solved = self.settings.stop_when_solved and state["solved"]
        self.optimizer = state.get("optimizer")
        self.curves.resume(checkpoint["global_step"])

    def on_save_checkpoint(
        self, trainer: pl.Trainer, objective: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if trainer.is_global_zero and trainer.global_step:
            self.curves.write()
        checkpoint[STATE_KEY] = {
            "version": STATE_VERSION,
            "steps_to_solve": self.steps_to_solve,
            "seconds_to_solve": self.seconds_to_solve,
            "solved": self.solved,
            "optimizer": self.optimizer,
            "seconds": self._seconds_so_far(),
        }

    def on_train_start(self, trainer: pl.Trainer, objective: pl.LightningModule) -> None:
        self._started = time.perf_counter()
        install_deferring_handlers()  # Lightning has just set its own
        kind = type(trainer.optimizers[0])
        self.optimizer = f"{kind.__module__}.{kind.__qualname__}"
        configured = getattr(getattr(objective, "make_optimizer", None), "kind", kind)
        if not issubclass(kind, configured):
            log.warning("objective: configures %s itself; the keys of optimizer do not apply", self.optimizer)
        self._steps = trainer.global_step

    def on_train_end(self, trainer: pl.Trainer, objective: pl.LightningModule) -> None:
        self.seconds = self._seconds_so_far()

    def _seconds_so_far(self) -> float:
        """Return the time of all stretches of training, the current one included."""
        return self.seconds + time.perf_counter() - self._started

    def on_validation_end(self, trainer: pl.Trainer, objective: pl.LightningModule) -> None:
        reached = trainer.callback_metrics[f"val/{self.goal}"].item()
        if self.steps_to_solve is None and reached >= self.settings.solve_threshold:
            self.steps_to_solve, self.seconds_to_solve = trainer.global_step, self._seconds_so_far()
        self.solved = self.settings.stop_when_solved and reached >= stopping_threshold(self.settings)
        log.info("%s", progress_line(trainer))

    def on_train_batch_end(
        self, trainer: pl.Trainer, objective: pl.LightningModule, outputs: Any, *_: Any
    ) -> None:
        step, settings = trainer.global_step, self.settings
        # Ranks must stop at one step. Asking each other waits for the devices, so they ask where the loss
        # is read anyway.
        asked = trainer.world_size == 1 or step % settings.log_every == 0
        batches = trainer.fit_loop.epoch_loop.batch_progress
        # After the last batch of an epoch comes its evaluation, with a checkpoint. Between two steps,
        # accumulated gradients would be lost.
        between_steps = batches.current.ready % trainer.accumulate_grad_batches != 0
        if step - self._steps != (0 if between_steps else 1):
            raise InputError(
                f"objective: takes {step - self._steps} optimizer steps in a batch; not supported, as "
                "max_steps and all curves count batches; take one"
            )
        self._steps = step
        if not outputs and objective.automatic_optimization and not self._told_of_no_loss:
            self._told_of_no_loss = True
            log.warning("training_step returned no loss at step %d, which changes no weight", step)
        if batches.is_last_batch or between_steps or not asked:
            return
        sign = pending_signal()
        if trainer.strategy.reduce_boolean_decision(sign is not None, all=False):
            # Lightning logs the metrics of a step after this hook.
            trainer._logger_connector.update_train_step_metrics()
            trainer.save_checkpoint(self.folder / "checkpoints" / "last.ckpt")
            raise Stopped(sign or _ANY_SIGNAL)

    def on_train_epoch_start(self, trainer: pl.Trainer, objective: pl.LightningModule) -> None:
        """Stop between two epochs, where the last checkpoint has just been saved."""
        sign = pending_signal()
        if trainer.strategy.reduce_boolean_decision(sign is not None, all=False):
            raise Stopped(sign or _ANY_SIGNAL)


class CheckpointTrial(pl.Callback):
    """Check before the first step that a checkpoint can be written and read.

    Right before the step, as callbacks may set up their state in any earlier hook.
    """

    def __init__(self, checkpoints: AtomicCheckpoints) -> None:
        self._checkpoints: AtomicCheckpoints | None = checkpoints

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        # Other strategies write checkpoints by themselves.
        if self._checkpoints and isinstance(trainer.strategy, SingleDeviceStrategy | DDPStrategy):
            with self._checkpoints.trial():
                trainer.save_checkpoint("")
        self._checkpoints = None


class BestCheckpoint(ModelCheckpoint):
    """ModelCheckpoint that keeps its best score when the folder of the run has moved."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        def moved(path: str) -> str:
            return str(Path(str(self.dirpath), Path(path).name)) if path else path

        best = {moved(path): score for path, score in state_dict["best_k_models"].items()}
        paths = {key: moved(state_dict[key]) for key in ("best_model_path", "kth_best_model_path")}
        super().load_state_dict({**state_dict, **paths, "dirpath": self.dirpath, "best_k_models": best})


def stopping_threshold(settings: Settings) -> float:
    """Return the validation goal that ends training: three standard errors above `solve_threshold`.

    At `solve_threshold` itself, chance decides: the test of one run in six then fell short of it.
    """
    threshold = settings.solve_threshold
    error = math.sqrt(threshold * (1 - threshold) / settings.evaluation.validation_samples)
    return min(1.0, threshold + 3 * error)


def saving_and_stopping(settings: Settings, goal: str, folder: Path) -> list[pl.Callback]:
    """Return Lightning's callbacks that end a solved run and save the best and the last checkpoint.

    Both go by the task's goal (`Task.goal`).
    The best comes first: a run killed in between resumes from the previous last.ckpt and rewrites both.
    """
    callbacks: list[pl.Callback] = []
    if settings.stop_when_solved:
        threshold = math.nextafter(stopping_threshold(settings), 0)  # Lightning compares with `>`
        callbacks.append(
            EarlyStopping(
                f"val/{goal}",
                mode="max",
                stopping_threshold=threshold,
                patience=sys.maxsize,
                check_finite=False,
                check_on_train_epoch_end=False,
            )
        )
    shared: dict[str, Any] = {
        "dirpath": folder / "checkpoints",
        "enable_version_counter": False,
        "save_on_train_epoch_end": True,
    }
    best = BestCheckpoint(filename="best", monitor=f"val/{goal}", mode="max", **shared)
    return [*callbacks, best, ModelCheckpoint(filename="last", **shared)]


class TrainingBar(RichProgressBar):
    """One bar over all steps; Lightning's starts again with each epoch, which is `eval_every` steps long."""

    @property
    def total_train_batches(self) -> int:
        return int(self.trainer.max_steps * self.trainer.accumulate_grad_batches)

    def get_metrics(self, trainer: pl.Trainer, module: pl.LightningModule) -> dict[str, Any]:
        return {k: v for k, v in super().get_metrics(trainer, module).items() if k != "v_num"}

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if self.train_progress_bar_id is None:
            super().on_train_epoch_start(trainer, module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        number = trainer.fit_loop.epoch_loop.total_batch_idx
        super().on_train_batch_end(trainer, module, outputs, batch, number)

    def _get_train_description(self, current_epoch: int) -> str:
        return "training"


class ProgressLines(pl.Callback):
    """Lines about the progress where there is no terminal: nohup, Slurm, notebooks."""

    def __init__(self) -> None:
        self._last = -math.inf

    def on_validation_end(self, trainer: pl.Trainer, objective: pl.LightningModule) -> None:
        if trainer.is_global_zero and time.monotonic() - self._last >= _EVERY:
            self._last = time.monotonic()
            print(progress_line(trainer), flush=True)


def progress_line(trainer: pl.Trainer) -> str:
    """Return `step 500 of 10000: loss 0.423, validation accuracy 0.512, decision accuracy 0.498`."""
    metrics = trainer.callback_metrics
    names = {
        "loss": "train/loss",
        "validation accuracy": "val/accuracy",
        "decision accuracy": "val/decision_accuracy",
        "creativity": "val/creativity",
    }
    shown = [f"{word} {metrics[name]:.3f}" for word, name in names.items() if name in metrics]
    return f"step {trainer.global_step} of {trainer.max_steps}: {', '.join(shown)}"
