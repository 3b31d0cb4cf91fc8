"""From a composed config to the objects of a run, with every mistake in it told in one line."""

from __future__ import annotations

import inspect
import json
import pkgutil
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn

from forethought.errors import Impossible, InputError, expected_one_of
from forethought.objectives import Objective
from forethought.run.checkpoint import model_weights
from forethought.run.hardware import Hardware
from forethought.run.settings import EvaluationSettings, Settings
from forethought.tasks import Data, Task, derive
from forethought.validation import explain

Config = dict[str, Any]

GROUPS = ("task", "model", "objective", "optimizer", "hardware", "logger")

_BASES: dict[str, type] = {"task": Task, "model": nn.Module, "objective": Objective, "hardware": Hardware}
_METHODS = {"optimizer": "__call__", "logger": "open"}


@dataclass
class Parts:
    """What a run is made of."""

    settings: Settings
    task: Task
    objective: Objective
    hardware: Hardware
    hardware_choice: str
    """What `auto` stands for in it, and why; empty if there was none."""
    logger: Any


def build(config: Config) -> Parts:
    """
    Args:
        config: the composed config as plain nested dicts.

    Raises:
        InputError: a value that is wrong by itself or does not go with the others.
    """
    known = {*GROUPS, *inspect.signature(Settings).parameters}
    for key in config.keys() - known:
        raise InputError(f"{key}: no such key; {expected_one_of(sorted(known), key)}")
    settings = build_settings(config)
    hardware = construct(config, "hardware")
    if settings.batch_size % hardware.devices:
        raise InputError(
            f"batch_size={settings.batch_size}: expected a multiple of hardware.devices={hardware.devices}"
        )
    task = construct(config, "task")
    if task.train_samples is not None and task.train_samples < hardware.devices:
        raise InputError(
            f"task.train_samples={task.train_samples}: expected at least hardware.devices={hardware.devices}"
        )
    torch.manual_seed(derive(settings.seed, "weights"))
    try:
        objective = build_objective(config, task)
    except RuntimeError as error:
        if not re.search("allocate memory|size calculation overflowed", str(error)):
            raise
        raise InputError("model: more than the memory here can hold; expected a smaller one") from None
    if hardware.cuda_graph and objective.changes_by_step:
        raise Impossible(
            f"hardware.cuda_graph=true: the loss of {type(objective).__name__} changes by the step; "
            "expected false"
        )
    tokens = settings.batch_size // hardware.devices * (task.prompt_length + task.answer_length)
    hardware, choice = hardware.fitted(objective.model, tokens, settings.max_steps, settings.replicas)
    return Parts(
        settings=settings,
        task=task,
        objective=objective,
        hardware=hardware,
        hardware_choice=choice,
        logger=construct(config, "logger"),
    )


def build_settings(config: Config) -> Settings:
    roots = {key: config[key] for key in inspect.signature(Settings).parameters if key in config}
    try:
        roots["evaluation"] = EvaluationSettings(**node(config, "evaluation"))
    except ValidationError as error:
        raise explain(error, "evaluation") from None
    try:
        return Settings(**roots)
    except ValidationError as error:
        raise explain(error, "") from None


def build_objective(config: Config, task: Task) -> Objective:
    """The objective around a freshly initialised model that fits the task."""
    given: dict[str, Any] = {
        "vocabulary_size": len(task.vocabulary),
        "context_length": task.prompt_length + task.answer_length + _extra_positions(config, task),
    }
    if "token_names" in inspect.signature(locate(config, "model")).parameters:
        given["token_names"] = task.vocabulary
    model = construct(config, "model", **given)
    objective: Objective = construct(config, "objective", model=model, task=task)
    objective.make_optimizer = construct(config, "optimizer")
    return objective


def _extra_positions(config: Config, task: Task) -> int:
    try:
        extra = locate(config, "objective").extra_positions(task, **options(config, "objective"))
    except (TypeError, AttributeError):
        extra = None
    # A wrong option, or no objective of ours: the constructor says so in a moment.
    return extra if isinstance(extra, int) and extra > 0 else 0


def construct(config: Config, group: str, **given: Any) -> Any:
    """Call the `_target_` of a config group with the group's values and with `given`."""
    values = options(config, group)
    target = locate(config, group)
    known = inspect.signature(target).parameters
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
    for key, value in values.items():
        if key in given or (key not in known and not takes_all):
            accepted = (name for name in known if name not in given)
            raise InputError(f"{group}.{key}={value}: no such key; {expected_one_of(accepted, key)}")
    try:
        return target(**values, **given)
    except ValidationError as error:
        raise explain(error, group) from None


def options(config: Config, group: str) -> dict[str, Any]:
    """The keys that the group's `_target_` is called with."""
    return {key: value for key, value in node(config, group).items() if key not in ("_target_", "label")}


def node(config: Config, group: str) -> dict[str, Any]:
    if not isinstance(config.get(group), dict):
        among = f"{group}=CHOICE, a file in conf/{group}, or " if group in GROUPS else ""
        raise InputError(f"{group}={config.get(group)}: expected {among}{group}.KEY=VALUE")
    found: dict[str, Any] = config[group]
    return found


def locate(config: Config, group: str) -> Any:
    """The class that `_target_` names: one of the group's kind, so that no config calls anything else."""
    target = (config.get(group) or {}).get("_target_")
    try:
        found = pkgutil.resolve_name(str(target))
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            f"{group}._target_={target}: cannot be imported ({error}); expected package.module.Class"
        ) from None
    base, method = _BASES.get(group), _METHODS.get(group)
    if not isinstance(found, type) or (base is not None and not issubclass(found, base)):
        raise InputError(f"{group}._target_={target}: expected a class{_derived(base)}")
    if method is not None and not any(method in vars(each) for each in found.__mro__):
        raise InputError(f"{group}._target_={target}: expected a class with a method {method}")
    return found


def _derived(base: type | None) -> str:
    return "" if base is None else f" derived from {base.__module__}.{base.__qualname__}"


def check(config: Config, folder: Path | None = None) -> None:
    """Everything that can be known to be wrong before training; no model is allocated, nothing written.

    Args:
        folder: where the run would go on from a checkpoint, if it has one.

    Raises:
        InputError: the first thing found.
    """
    with torch.device("meta"):
        parts = build(config)
    _check_data(json.dumps(config["task"]))
    resumes = folder is not None and (folder / "checkpoints" / "last.ckpt").exists()
    if parts.settings.init_from is not None and not resumes:
        model_weights(parts.objective.model, starting_point(parts.settings.init_from))


@lru_cache
def _check_data(task: str) -> None:
    """That there are rows of every kind; once for all the cells of a sweep with this task."""
    data = Data(construct({"task": json.loads(task)}, "task"), seed=0, batch_size=1)
    data.batch(0), data.validation(1), data.test(1)


def checkpoint_of(folder: Path) -> Path:
    """
    Raises:
        InputError: not the folder of a run that has got as far as a checkpoint.
    """
    path = folder / "checkpoints" / "last.ckpt"
    if not path.is_file():
        raise InputError(f"{folder}: has no checkpoints/last.ckpt; expected the folder of a run")
    return path


def starting_point(init_from: str) -> Path:
    """The checkpoint that a run begins with.

    Raises:
        InputError: not the folder of a run that has got as far as a checkpoint.
    """
    try:
        return checkpoint_of(Path(init_from))
    except InputError as error:
        raise InputError(f"init_from={error}") from None
