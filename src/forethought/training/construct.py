"""Construct the object that a config group names by `_target_`. Every mistake is one line."""

from __future__ import annotations

import inspect
import pkgutil
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from pydantic import ValidationError

from forethought.errors import InputError, expected_one_of
from forethought.hardware import Hardware
from forethought.models import Model
from forethought.objectives import Objective
from forethought.tasks import Task
from forethought.validation import as_typed, explain_validation

Config = dict[str, Any]

BASES: dict[str, type] = {
    "task": Task,
    "model": Model,
    "objective": Objective,
    "optimizer": torch.optim.Optimizer,
    "hardware": Hardware,
    "logger": Logger,
    "callbacks": pl.Callback,
}
"""Config groups, and the class from which each `_target_` must derive. No config calls anything else."""


def construct(
    config: Config, group: str, build: str = "", base: type | None = None, prefix: str = "", **given: Any
) -> Any:
    """Call the `_target_` of a config group with the group's values and with `given`.

    Args:
        build: name of the classmethod to call instead of the constructor.
        base: class from which the target must derive; by default that of the group.
        prefix: of the group in messages.

    Raises:
        InputError: an unknown key, or a value that the target rejects.
    """
    kind, values = locate(config, group, base, prefix), options_of(config, group, prefix)
    refuse_unknown_keys(kind, values, prefix + group, given.keys() | {"self"})
    values = {key: value for key, value in values.items() if key not in given}
    try:
        return getattr(kind, build)(**given, **values) if build else kind(**given, **values)
    except ValidationError as error:
        raise explain_validation(error, prefix + group) from None
    except (TypeError, ValueError, ImportError, MisconfigurationException) as error:
        if _is_ours(kind) or without_values():
            raise
        said = " ".join(str(error).split())
        raise InputError(
            f"{prefix}{group}: {kind.__name__} rejects its options ({said}); change them"
        ) from None


def refuse_unknown_keys(
    function: Any, values: Config, name: str, given: Any, also: Config | frozenset[str] = frozenset()
) -> None:
    known = inspect.signature(function).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        return
    for key, value in values.items():
        if key not in known or key in given:
            accepted = [*(parameter for parameter in known if parameter not in given), *also]
            raise InputError(f"{name}.{key}={as_typed(value)}: no such key; {expected_one_of(accepted, key)}")


def options_of(config: Config, group: str, prefix: str = "") -> dict[str, Any]:
    """Return the keys that the group's `_target_` is called with."""
    hidden = ("_target_", "label")
    return {key: value for key, value in node(config, group, prefix).items() if key not in hidden}


def node(config: Config, group: str, prefix: str = "") -> dict[str, Any]:
    if not isinstance(config.get(group), dict):
        among = f"{group}=CHOICE, a file in conf/{group}, or " if group in BASES else ""
        raise InputError(f"{prefix}{group}={as_typed(config.get(group))}: expected {among}{group}.KEY=VALUE")
    values: dict[str, Any] = config[group]
    return values


def locate(config: Config, group: str, base: type | None = None, prefix: str = "") -> Any:
    """Import the class that `_target_` names. It must derive from the base class of its group.

    Raises:
        InputError: it cannot be imported, or is something else.
    """
    target = node(config, group, prefix).get("_target_")
    word = f"{prefix}{group}._target_={as_typed(target)}"
    try:
        kind = pkgutil.resolve_name(str(target))
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"{word}: cannot be imported ({error}); expected package.module.Class") from None
    base = base or BASES[group]
    if not (isinstance(kind, type) and issubclass(kind, base)):
        raise InputError(f"{word}: expected a class derived from {base.__module__}.{base.__qualname__}")
    return kind


def without_values() -> bool:
    """Tell whether tensors are made on the meta device, where an error may be due to their missing values."""
    return torch.get_default_device().type == "meta"


def _is_ours(kind: type) -> bool:
    return kind.__module__.startswith("forethought.")
