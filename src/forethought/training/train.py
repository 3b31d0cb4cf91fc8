"""Train and test one run."""

from __future__ import annotations

import itertools
import logging
import math
import signal
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.trainer.states import TrainerStatus

from forethought.evaluation import diagnose, grad_flow, show_examples, verdict
from forethought.results import Example, Verdict, write_curves
from forethought.run.build import Config, Parts, build, starting_point
from forethought.run.checkpoint import AtomicCheckpoints, check_weights, model_weights, read_checkpoint
from forethought.run.cuda_graph import CaptureGradients
from forethought.run.hardware import Hardware
from forethought.run.optimizer import ClipGradients
from forethought.run.progress import Progress, Report
from forethought.sweep import Stopped, begin_session, noted
from forethought.tasks import Batch, Data, derive

log = logging.getLogger(__name__)

_EXAMPLES = 8
_GRAD_FLOW_ROWS = 256


@dataclass
class Outcome:
    """What training and testing came to; the fields are those of `Results`."""

    device: str
    parameters: int
    wall_seconds: float
    steps: int
    samples_seen: int
    steps_to_solve: int | None
    verdict: Verdict
    decision_positions: list[int]
    metrics: dict[str, float]
    grad_flow: list[list[float]] | None
    examples: list[Example]


def train(
    config: Config,
    folder: Path,
    logger: Any = None,
    report: Report | None = None,
    progress_bar: bool = False,
) -> Outcome:
    """Train to the end or until solved, going on from `folder`'s last checkpoint if it has one; then test.

    Args:
        config: the composed config as plain nested dicts.
        folder: receives checkpoints/ and metrics.csv.
        logger: a Lightning logger, or None.
        report: called with step and validation metrics after each evaluation.
        progress_bar: show Lightning's bar and model summary.

    Raises:
        InputError: the config cannot be run, or its checkpoint cannot be read.
        FloatingPointError: the loss became NaN or infinite.
        Stopped: by one of `forethought.sweep.SIGNALS`, after a checkpoint at the step that it came in.
    """
    start = begin(config, folder, report)
    if choice := start.parts.hardware_choice:
        log.info("hardware: %s", choice)
        if progress_bar:
            print(f"hardware: {choice}", flush=True)
    if not start.trained:
        callbacks: list[pl.Callback] = [start.progress]
        if (norm := config["optimizer"].get("clip_norm")) is not None:
            callbacks.append(ClipGradients(norm))
        if progress_bar:
            callbacks.append(_Bar())
        begin_session(folder, start.first_step, start.parts.settings.max_steps)
        batches = Batches(start.data, start.first_step)
        fit(start, start.parts.objective, batches, callbacks, logger, progress_bar)
    state = read_checkpoint(start.checkpoint)
    start.progress.load_state_dict(state["callbacks"]["Progress"])
    if state["global_step"] < start.parts.settings.max_steps and not start.progress.solved:
        raise Stopped(noted() or signal.SIGTERM)
    # A run killed between its checkpoint and its curves has them in the checkpoint.
    write_curves(folder / "metrics.csv", start.progress.rows)
    return _test(start.parts, start.data, start.progress, state)


@dataclass
class Start:
    """A run that is about to train, or to go on from its last checkpoint.

    Args:
        first_step: optimiser steps that it has behind it.
        folder: receives checkpoints/ and metrics.csv.
    """

    parts: Parts
    data: Data
    progress: Progress
    first_step: int
    folder: Path

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoints" / "last.ckpt"

    @property
    def trained(self) -> bool:
        return self.first_step >= self.parts.settings.max_steps or self.progress.solved


def begin(config: Config, folder: Path, report: Report | None = None) -> Start:
    """
    Raises:
        InputError: the config cannot be run, or its checkpoint cannot be read.
    """
    parts = build(config)
    settings, hardware = parts.settings, parts.hardware
    hardware.limit_threads()
    data = Data(parts.task, settings.seed, settings.batch_size, hardware.device)
    last = folder / "checkpoints" / "last.ckpt"
    last.parent.mkdir(parents=True, exist_ok=True)
    for half_written in last.parent.glob(".*.ckpt.*"):  # by a process that was killed
        half_written.unlink()
    validation = data.validation(settings.evaluation.validation_samples)
    progress = Progress(settings, validation, folder, report)
    first_step = 0
    if last.exists():
        state = read_checkpoint(last)
        check_weights(parts.objective, state["state_dict"], last)
        first_step = state["global_step"]
        progress.load_state_dict(state["callbacks"]["Progress"])
    elif settings.init_from is not None:
        weights = model_weights(parts.objective.model, starting_point(settings.init_from))
        parts.objective.model.load_state_dict(weights)
    return Start(parts, data, progress, first_step, folder)


class _EachProcess(pl.Callback):
    """What the processes of a DDP run must each set for themselves."""

    def __init__(self, hardware: Hardware) -> None:
        self.hardware = hardware

    def setup(self, trainer: pl.Trainer, objective: pl.LightningModule, stage: str) -> None:
        self.hardware.limit_threads()
        if self.hardware.compile:
            objective.model.compile()
        _quieten()


def _quieten() -> None:
    """What Lightning says is advice, or about its own insides; its import resets its loggers."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")


class _Bar(RichProgressBar):
    def _get_train_description(self, current_epoch: int) -> str:
        return "training"  # there are no epochs


class Batches:
    """The endless stream of training batches; under DDP each process takes its share of every one."""

    def __init__(self, data: Data, first_step: int) -> None:
        self.data, self.first_step = data, first_step

    def __iter__(self) -> Iterator[Batch]:
        rank, world, data = 0, 1, self.data
        if dist.is_initialized():
            rank, world = dist.get_rank(), dist.get_world_size()
            data = data.on(f"cuda:{torch.cuda.current_device()}" if "cuda" in str(data.device) else "cpu")
        for step in itertools.count(self.first_step):
            yield data.batch(step)[rank::world]


def fit(
    start: Start,
    module: pl.LightningModule,
    batches: Iterable[Any],
    callbacks: Sequence[pl.Callback] = (),
    logger: Any = None,
    progress_bar: bool = False,
) -> None:
    """Train `module` from `start` on, as its settings and hardware say.

    Raises:
        KeyboardInterrupt: at Ctrl-C (Lightning alone would exit, and ignore any further one).
    """
    _quieten()
    settings, hardware = start.parts.settings, start.parts.hardware
    arguments = hardware.trainer_arguments()
    arguments["plugins"].append(AtomicCheckpoints())
    own: list[pl.Callback] = [_EachProcess(hardware)]
    if hardware.cuda_graph:
        batches = iter(batches)
        first = next(batches)
        own.append(CaptureGradients(first))
        batches = itertools.chain([first], batches)
    trainer = pl.Trainer(
        **arguments,
        max_steps=settings.max_steps,
        max_epochs=-1,
        callbacks=[*own, *callbacks],
        logger=logger or False,
        enable_checkpointing=False,
        enable_progress_bar=progress_bar,
        enable_model_summary=progress_bar,
        num_sanity_val_steps=0,
        default_root_dir=start.folder,
    )
    handler = signal.getsignal(signal.SIGINT)
    last = start.checkpoint if start.first_step else None
    try:
        trainer.fit(module, batches, ckpt_path=last, weights_only=True)
    except SystemExit:
        if trainer.state.status is not TrainerStatus.INTERRUPTED:
            raise
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from None


def _test(parts: Parts, data: Data, progress: Progress, state: dict[str, Any]) -> Outcome:
    """The last checkpoint is the truth: under DDP this process has not trained itself."""
    settings, objective = parts.settings, parts.objective
    objective.load_state_dict(state["state_dict"])
    objective.to(data.device)
    torch.manual_seed(derive(settings.seed, "test"))
    temperature = settings.evaluation.temperature
    rows = data.test(settings.evaluation.test_samples)
    metrics = diagnose(objective, rows, temperature)
    for name, value in metrics.items():
        if not math.isfinite(value):  # the last update, after the last loss that was looked at
            raise FloatingPointError(f"test/{name} became {value}")
    reach = grad_flow(objective.eval(), rows[:_GRAD_FLOW_ROWS])
    return Outcome(
        device=parts.hardware.describe(),
        parameters=sum(p.numel() for p in objective.parameters() if p.requires_grad),
        wall_seconds=round(progress.seconds, 3),
        steps=state["global_step"],
        samples_seen=state["global_step"] * len(data.batch(0)),
        steps_to_solve=progress.steps_to_solve,
        verdict=verdict(metrics, settings.solve_threshold),
        decision_positions=[int(i) + 1 for i in parts.task.decision_mask(rows).all(0).nonzero()],
        metrics={f"test/{name}": value for name, value in metrics.items()},
        grad_flow=None if reach is None else [[float(f"{x:.4g}") for x in row] for row in reach.tolist()],
        examples=show_examples(objective, rows[:_EXAMPLES], temperature),
    )
