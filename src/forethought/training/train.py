"""Train and test one run. The only training path: command line, notebooks and benchmarks take it."""

from __future__ import annotations

import inspect
import logging
import math
import os
import re
import signal
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities.types import Optimizable
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.trainer.states import TrainerStatus

from forethought.errors import InputError, describe_error
from forethought.evaluation import (
    EXAMPLES,
    attention_at_decision,
    grad_flow,
    gradient_split,
    name_probes,
    probe_answers,
    round_table,
    show_examples,
    verdict,
)
from forethought.hardware import Hardware
from forethought.loggers import CurvesLogger
from forethought.sweeps import Stopped, pending_signal
from forethought.tasks import derive_seed
from forethought.training.build import Run, load_initial_weights
from forethought.training.callbacks import (
    CheckpointTrial,
    ProgressLines,
    RunState,
    TrainingBar,
    saving_and_stopping,
)
from forethought.training.checkpoint import AtomicCheckpoints, check_weights, read_checkpoint
from forethought.training.flops import count_flops

log = logging.getLogger(__name__)

_INSIDE_ROWS = 256
_FEW_INSTANCES = 100
_TRAINER_DEFAULTS = {name: p.default for name, p in inspect.signature(pl.Trainer).parameters.items()}


class Session:
    """A run with its trainer, at step 0 or at its last checkpoint.

    Args:
        run: the built run.
        folder: receives checkpoints/ and metrics.csv; created if missing.
        own_process_group: True in a process of a launcher: the surrounding Slurm or torchrun variables
            then describe the launcher's job and not this run.
        progress: `bar`, `lines` or `none`.

    Raises:
        InputError: the checkpoint cannot be read or is of another model.
    """

    def __init__(
        self, run: Run, folder: Path, own_process_group: bool = False, progress: str = "none"
    ) -> None:
        quieten_lightning()
        folder.mkdir(parents=True, exist_ok=True)
        self.run, self.settings = run, run.settings
        compiled = run.hardware.compile not in (False, "blocks")
        if compiled and (failure := _try_compiling(run.hardware.device)):
            run.hardware = replace(run.hardware, compile=False)
            rest = re.sub("^compiled [^,]*(, )?", "", run.hardware_reason)
            reason = f"not compiled, as torch.compile fails here ({failure})"
            run.hardware_reason = "; ".join(filter(None, [reason, rest]))
        self.flops_of_batch = count_flops(run.objective, run.data.data.batch(0))
        self.checkpoint = folder / "checkpoints" / "last.ckpt"
        self.curves = CurvesLogger(folder)
        self.state = RunState(run.settings, run.task.goal, self.curves, folder)
        checkpoints = AtomicCheckpoints(run.objective.state_dict())
        self.first_step = 0
        if self.checkpoint.exists():
            saved = read_checkpoint(self.checkpoint)
            check_weights(run.objective, saved["state_dict"], self.checkpoint)
            self.first_step = saved["global_step"]
            self.state.restore(saved)
            run.objective.load_state_dict(saved["state_dict"])
        elif run.settings.init_from is not None:
            weights = load_initial_weights(run.objective.model, run.settings)
            run.objective.model.load_state_dict(weights)
        elif run.objective.starts_trained:
            name = type(run.objective).__name__
            log.warning("%s has little to learn from an untrained model; use init_from=RUN", name)
        shown: dict[str, list[Callback]] = {"bar": [TrainingBar()], "lines": [ProgressLines()], "none": []}
        options = {
            **run.hardware.trainer_arguments(run.settings.precision),
            **run.trainer_options,
            "max_steps": run.settings.max_steps,
            "log_every_n_steps": run.settings.log_every,
            "callbacks": [
                self.state,
                _EachRank(run.hardware),
                *run.callbacks,
                *shown[progress],
                CheckpointTrial(checkpoints),
                *saving_and_stopping(run.settings, run.task.goal, folder),
            ],
            "logger": [self.curves, *([] if run.logger is None else [run.logger])],
            "plugins": [checkpoints, *([LightningEnvironment()] if own_process_group else [])],
            "enable_progress_bar": progress == "bar",
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
            "default_root_dir": folder,
        }
        for name in sorted(name for name in os.environ if name.startswith("PL_TRAINER_")):
            log.warning("%s=%s: ignored; use trainer.KEY=VALUE", name, os.environ[name])
        for name in sorted({"PL_GLOBAL_SEED", "PL_SEED_WORKERS"} & os.environ.keys()):
            # Lightning's DDP would seed the test by it. An objective's own `seed_everything` sets it, too.
            log.warning("%s=%s: ignored; use seed=VALUE", name, os.environ.pop(name))
        # Every argument: Lightning takes one that is left out from its variable PL_TRAINER_….
        self.trainer = pl.Trainer(**{**_TRAINER_DEFAULTS, **options})

    @property
    def trained(self) -> bool:
        return self.state.solved or (self.checkpoint.exists() and self.first_step >= self.settings.max_steps)

    def fit(self) -> None:
        """Train to the end or until solved.

        Raises:
            FloatingPointError: the loss became NaN or infinite.
            InputError: the objective configures no optimizer or several.
            Stopped: by one of `forethought.sweeps.SIGNALS`, after a checkpoint at the current step.
            KeyboardInterrupt: at Ctrl-C. Lightning alone would exit, and ignore any further one.
        """
        handler = signal.getsignal(signal.SIGINT)
        path = self.checkpoint if self.first_step else None
        self.run.objective.configure_optimizers = _one_optimizer(self.run.objective)  # type: ignore[method-assign]
        try:
            self.trainer.fit(self.run.objective, datamodule=self.run.data, ckpt_path=path, weights_only=True)
            if not self.settings.max_steps:  # Lightning trains nothing, and saves nothing
                self.trainer.save_checkpoint(self.checkpoint)
        except SystemExit:
            if self.trainer.state.status is not TrainerStatus.INTERRUPTED:
                raise
            signal.signal(signal.SIGINT, handler)
            if sign := pending_signal():
                raise Stopped(sign) from None
            raise KeyboardInterrupt from None

    def test(self) -> dict[str, Any]:
        """Test the trained objective. Return the fields of `Results` that follow from the run itself.

        Raises:
            FloatingPointError: a metric is NaN or infinite.
        """
        run, objective, task = self.run, self.run.objective, self.run.task
        tested = self.test_metrics()
        objective.to(run.hardware.device)
        data = run.data.data.on(run.hardware.device)
        rows = data.test(self.settings.evaluation.test_samples)
        instances = len(task.fingerprint(rows).unique())
        if instances < _FEW_INSTANCES:
            more = "more rows by evaluation.test_samples" if 2 * instances > len(rows) else "a larger task"
            use = more if task.test_file is None else "other rows in task.test_file"
            log.warning("the test has %d different instances in %d rows; use %s", instances, len(rows), use)
        objective.eval()
        inside = rows[:_INSIDE_ROWS]
        probed = self.settings.evaluation.probe_samples
        probes = probe_answers(objective, data.probe(probed), rows) if probed else None
        attention = attention_at_decision(objective, inside)
        steps = max(self.trainer.global_step, self.first_step)
        per_step = len(run.data.data.batch(0)) * self.trainer.accumulate_grad_batches
        plain = {name.removeprefix("test/"): value for name, value in tested.items()}
        solved_after = self.state.seconds_to_solve
        return {
            "device": run.hardware.describe(self.settings.precision),
            "optimizer": self.state.optimizer,
            "parameters": sum(p.numel() for p in objective.parameters() if p.requires_grad),
            "wall_seconds": round(self.state.seconds, 3),
            "steps": steps,
            "samples_seen": steps * per_step,
            "steps_to_solve": self.state.steps_to_solve,
            "seconds_to_solve": solved_after and round(solved_after, 3),
            "training_flops": self._flops_of(steps),
            "flops_to_solve": self._flops_of(self.state.steps_to_solve),
            "verdict": verdict(plain, self.settings.solve_threshold, task.needs_plan, task.goal),
            "test_instances": instances,
            "decision_positions": [int(i) + 1 for i in task.decision_mask(rows).all(0).nonzero()],
            "metrics": tested | name_probes(probes),
            "grad_flow": round_table(grad_flow(objective, inside)),
            "gradient_split": round_table(gradient_split(objective, inside)),
            "probes": round_table(probes),
            "attention": attention and {name: round_table(table) for name, table in attention.items()},
            "examples": show_examples(objective, task, rows[:EXAMPLES], self.settings.evaluation),
        }

    def _flops_of(self, steps: int | None) -> float | None:
        if steps is None or self.flops_of_batch is None:
            return None
        return steps * self.trainer.accumulate_grad_batches * self.flops_of_batch

    def test_metrics(self) -> dict[str, float]:
        """Test on all ranks together."""
        self.trainer.loggers = []  # results.json comes before anything is published
        torch.manual_seed(derive_seed(self.settings.seed, "test"))
        (tested,) = self.trainer.test(self.run.objective, datamodule=self.run.data, verbose=False)
        for name, value in tested.items():
            if not math.isfinite(value):  # the last update may have failed after the last loss that was read
                raise FloatingPointError(f"{name} became {value}")
        return dict(tested)


class _EachRank(pl.Callback):
    """Settings that every process of a DDP run must make for itself."""

    def __init__(self, hardware: Hardware) -> None:
        self.hardware = hardware

    def setup(self, trainer: pl.Trainer, objective: pl.LightningModule, stage: str) -> None:
        self.hardware.set_up(objective)  # here, as Lightning's DDP has just set a number of its own
        if stage == "fit":
            self.hardware.compile_model(objective.model)


def _one_optimizer(objective: pl.LightningModule) -> Callable[[], Any]:
    """Return the `configure_optimizers` of an objective with a check. It replaces the method for one call.

    Lightning would advise several optimizers to use manual optimization, and count the steps of each.
    """
    configure = objective.configure_optimizers
    kind = type(objective)

    @wraps(configure)
    def checked() -> Any:
        del objective.configure_optimizers
        configured: Any = configure()
        several = configured if isinstance(configured, list | tuple) else [configured]
        if several and isinstance(several[0], list | tuple):  # beside their schedulers
            several = several[0]
        optimizers = [entry.get("optimizer") if isinstance(entry, dict) else entry for entry in several]
        indexed = "optimizer_idx" in inspect.signature(objective.training_step).parameters
        if len(optimizers) != 1 or not isinstance(optimizers[0], Optimizable) or indexed:
            names = ", ".join(type(entry).__name__ for entry in optimizers) or "none"
            what = "training_step takes optimizer_idx" if indexed else f"configure_optimizers returns {names}"
            raise InputError(
                f"objective._target_={kind.__module__}.{kind.__qualname__}: {what}; not supported, as steps "
                "are those of one optimizer; return one, with a parameter group for each part of the model, "
                "alone or with its scheduler"
            )
        return configured

    return checked


def _try_compiling(device: str) -> str | None:
    """Return why `torch.compile` cannot work on this machine: no compiler, or no room for its files."""
    try:
        torch.compile(_sum_of_squares)(torch.ones(2, device=device, requires_grad=True)).backward()
    except Exception as error:  # torch has many, depending on what is missing
        return describe_error(error)
    return None


def _sum_of_squares(x: torch.Tensor) -> torch.Tensor:
    return (x * x).sum()


def quieten_lightning() -> None:
    """Silence Lightning's advice and remarks on its own insides. Its import resets its loggers."""
    for package in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(package).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
