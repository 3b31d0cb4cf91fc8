"""Build the objects of a run from a composed config. Every mistake is one line."""

from __future__ import annotations

import inspect
import json
import re
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import Logger
from pydantic import ValidationError
from torch import nn

from forethought.errors import InputError, expected_one_of
from forethought.hardware import Hardware
from forethought.objectives import Objective
from forethought.optimizers import ClipGradients, OptimizerFactory
from forethought.optimizers.factory import OPTIONS_OF_FACTORY
from forethought.results import collect
from forethought.sweeps import GRID_FILE, Cell
from forethought.sweeps.source import hash_source
from forethought.tasks import Data, Task, TaskData, derive_seed
from forethought.training.checkpoint import check_weights, checkpoint_of, load_model_weights, read_checkpoint
from forethought.training.construct import (
    BASES,
    Config,
    construct,
    locate,
    node,
    options_of,
    refuse_unknown_keys,
)
from forethought.training.settings import EvaluationSettings, Settings, check_trainer_options
from forethought.validation import as_typed, explain_validation

_FROM_TASK = {
    "self",
    "vocabulary_size",
    "context_length",
    "token_names",
    "tokenizer",
}  # `Model.for_task` sets them
_ROOT_KEYS = {*BASES, "trainer", *inspect.signature(Settings).parameters}
_CHECKED_ROWS = 100
_TRAINER_ARGUMENTS = list(inspect.signature(pl.Trainer.__init__).parameters)[1:]


@dataclass
class Run:
    """A built cell."""

    settings: Settings
    data: TaskData
    objective: Objective
    hardware: Hardware
    hardware_reason: str
    """The choices that `auto` made, and why; empty if there was none."""
    logger: Logger | None
    callbacks: list[pl.Callback]
    trainer_options: dict[str, Any]

    @property
    def task(self) -> Task:
        return self.objective.task


def build(config: Config, cell: Cell | None = None) -> Run:
    """Build a run.

    Args:
        config: the composed config as plain nested dicts.
        cell: the cell, which loggers may ask for (`save_dir`, `cell`).

    Raises:
        InputError: a value that is wrong by itself or together with others.
    """
    for key in config.keys() - _ROOT_KEYS:
        raise InputError(f"{key}: no such key; {expected_one_of(sorted(_ROOT_KEYS), key)}")
    for key in sorted(_ROOT_KEYS - config.keys()):
        raise InputError(f"{key}: missing; use {key}=VALUE")
    settings = build_settings(config)
    trainer_options = check_trainer_options(node(config, "trainer"), _TRAINER_ARGUMENTS)
    hardware = construct(config, "hardware")
    if settings.batch_size % hardware.devices:
        raise InputError(
            f"batch_size={settings.batch_size}: use a multiple of hardware.devices={hardware.devices}"
        )
    task = construct(config, "task")
    if task.train_samples is not None and task.train_samples < hardware.devices:
        raise InputError(
            f"task.train_samples={task.train_samples}: use at least hardware.devices={hardware.devices}"
        )
    torch.manual_seed(derive_seed(settings.seed, "weights"))
    try:
        objective = build_objective(config, task)
    except RuntimeError as error:
        if not re.search("allocate memory|size calculation overflowed", str(error)):
            raise
        raise InputError("model: larger than the memory of this machine; use a smaller one") from None
    settings.evaluation.check_objective(objective)
    objective.decoding = settings.evaluation
    factory = build_optimizer_factory(config)
    factory.build(objective)  # an option that the optimizer rejects is found before anything is written
    objective.make_optimizer = factory
    rows, length = settings.batch_size // hardware.devices, task.prompt_length + task.answer_length
    hardware, reason = hardware.fitted(objective, rows, length, settings.max_steps, settings.precision)
    clipping = [] if factory.clip_norm is None else [ClipGradients(factory.clip_norm)]
    return Run(
        settings=settings,
        data=build_data(settings, task, hardware.has_idle_core),
        objective=objective,
        hardware=hardware,
        hardware_reason=reason,
        logger=build_logger(config, cell),
        callbacks=[*_build_callbacks(config), *clipping],  # as in Lightning, hooks see whole gradients
        trainer_options=trainer_options,
    )


def build_settings(config: Config) -> Settings:
    roots = {key: config[key] for key in inspect.signature(Settings).parameters if key in config}
    try:
        roots["evaluation"] = EvaluationSettings(**node(config, "evaluation"))
    except ValidationError as error:
        raise explain_validation(error, "evaluation") from None
    try:
        return Settings(**roots)
    except ValidationError as error:
        raise explain_validation(error, "") from None


def build_data(settings: Settings, task: Task, draw_ahead: bool) -> TaskData:
    return TaskData(
        task,
        batch_size=settings.batch_size,
        seed=settings.seed,
        validation_samples=settings.evaluation.validation_samples,
        test_samples=settings.evaluation.test_samples,
        steps_per_epoch=settings.eval_every,
        draw_ahead=draw_ahead,
    )


def build_objective(config: Config, task: Task) -> Objective:
    """Build the objective around a freshly initialised model that fits the task."""
    kind = locate(config, "objective")
    given = options_of(config, "objective")
    refuse_unknown_keys(kind, given, "objective", {"model", "task"})
    try:
        extra = kind.extra_positions(task, **given)
    except ValidationError as error:
        raise explain_validation(error, "objective") from None
    refuse_unknown_keys(locate(config, "model"), options_of(config, "model"), "model", _FROM_TASK)
    model = construct(config, "model", build="for_task", task=task, extra_positions=extra)
    objective: Objective = construct(config, "objective", model=model, task=task)
    return objective


def build_optimizer_factory(config: Config) -> OptimizerFactory:
    kind, given = locate(config, "optimizer"), options_of(config, "optimizer")
    ours = {key: given.pop(key) for key in OPTIONS_OF_FACTORY & given.keys()}
    refuse_unknown_keys(getattr(kind, "for_module", kind), given, "optimizer", {"params", "module"}, ours)
    try:
        return OptimizerFactory(kind=kind, options=given, **ours)
    except ValidationError as error:
        raise explain_validation(error, "optimizer") from None


def build_logger(config: Config, cell: Cell | None) -> Logger | None:
    """Build the logger, which gets `save_dir` and `cell` if its constructor takes them."""
    if node(config, "logger").get("_target_") is None:
        return None
    taken = inspect.signature(locate(config, "logger")).parameters
    place = {"save_dir": None if cell is None else str(cell.folder), "cell": cell}
    chosen: dict[str, Any] = {
        key: place[key] for key in place.keys() & taken if config["logger"].get(key) is None
    }
    logger: Logger = construct(config, "logger", **chosen)
    return logger


def _build_callbacks(config: Config) -> list[pl.Callback]:
    entries = config.get("callbacks") or {}
    for name, entry in entries.items():
        if not isinstance(entry, dict):
            raise InputError(
                f"callbacks.{name}={as_typed(entry)}: expected callbacks.{name}._target_=package.Class"
            )
    return [construct(entries, name, base=BASES["callbacks"], prefix="callbacks.") for name in entries]


def check(config: Config, cell: Cell | None = None, checkpoint: Path | None = None) -> None:
    """Find every mistake that can be known before training. Writes nothing.

    It allocates no model, unless a constructor looks at values: then it builds the run as training does.

    Args:
        checkpoint: of another run, from which this run continues.

    Raises:
        InputError: the first mistake.
        Exception: of a class of the user's own, which fails in training, too.
    """
    try:
        with torch.device("meta"):
            run = build(config, cell)
    except InputError:
        raise
    except Exception:
        run = build(config, cell)
    _check_data(json.dumps(config["task"]))
    if checkpoint is not None:
        check_weights(run.objective, read_checkpoint(checkpoint)["state_dict"], checkpoint)
    resumes = checkpoint or (cell is not None and (cell.folder / "checkpoints" / "last.ckpt").exists())
    if run.settings.init_from is not None and not resumes:
        load_initial_weights(run.objective.model, run.settings)


def describe_train_file(config: Config) -> str:
    """Return how many rows of the training file are trained on, in a line. Empty if there is no file."""
    return _check_data(json.dumps(config["task"]))


@lru_cache
def _check_data(task: str) -> str:
    """Draw rows of every kind, once for all cells of a sweep with this task. Describe the training file."""
    options = json.loads(task)
    if options.get("train_samples") and not options.get("train_file"):
        # Where some rows can be drawn, any number can; 100,000 mazes would take minutes.
        options["train_samples"] = min(options["train_samples"], _CHECKED_ROWS)
    data = Data(construct({"task": options}, "task"), seed=0, batch_size=1)
    data.batch(0), data.validation(1), data.test(1)
    return data.describe_train_file()


def load_initial_weights(model: nn.Module, settings: Settings) -> dict[str, Any]:
    """Return weights for `model` from the run in the folder `init_from`, or a sweep's run of this seed.

    Raises:
        InputError: no run with a checkpoint, several in the sweep with this seed, or one of another model.
    """
    folder, seed = Path(str(settings.init_from)), settings.seed
    try:
        if (folder / GRID_FILE).exists():
            runs = [path for path, results in collect(folder).items() if results.seed == seed]
            if len(runs) != 1:
                raise InputError(
                    f"{folder}: has {len(runs)} finished runs of seed={seed}; pass the folder of a run, or "
                    "of a sweep with one run a seed"
                )
            folder = runs[0]
        path = checkpoint_of(folder)
    except InputError as error:
        raise InputError(f"init_from={error}") from None
    return load_model_weights(model, path)


def source_hashes(config: Config) -> dict[str, str]:
    """Return the hash of each source file behind the run's task, model, objective and optimizer, by module.

    Base classes count, so that an edit of `NextToken` is noticed in every objective made from it.
    """
    modules = {
        kind.__module__
        for group in ("task", "model", "objective", "optimizer")
        for kind in locate(config, group).__mro__
        if kind.__module__.split(".")[0] not in {*sys.stdlib_module_names, "torch", "lightning"}
    }
    hashes = {module: hash_source(module) for module in sorted(modules)}
    return {module: digest for module, digest in hashes.items() if digest is not None}


def sweep_context(cell: Cell) -> AbstractContextManager[None]:
    """Return the context of the logger around all runs of a sweep, if it has one.

    Args:
        cell: any cell of the sweep.
    """
    logger: Any = build_logger(cell.config, cell)
    around = getattr(logger, "sweep", None)
    return nullcontext() if around is None else around(cell.sweep, cell.folder.parent)
