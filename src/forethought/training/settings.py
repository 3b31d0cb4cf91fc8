"""The root keys of the config: the protocol of one run."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt

from forethought.errors import InputError, expected_one_of
from forethought.evaluation import Decoding
from forethought.hardware.hardware import Precision
from forethought.validation import as_typed, validated_dataclass


def _folder_name(name: str) -> str:
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise ValueError(f"sweep={name}: not a folder name; use letters, digits, _, . and -")
    return name


# More is a slip of the finger, and would end in a lack of memory.
Rows = Annotated[int, Field(gt=0, le=10_000_000)]


def _enough_to_fit(count: int) -> int:
    if 0 < count < 100:
        raise ValueError(
            f"evaluation.probe_samples={count}: too few rows to fit on; use at least 100, or 0 for none"
        )
    return count


@validated_dataclass
class EvaluationSettings(Decoding):
    """Rows and decoding of the evaluations; see conf/config.yaml."""

    validation_samples: Rows = 1000
    test_samples: Rows = 10_000
    probe_samples: Annotated[int, Field(ge=0, le=10_000_000), AfterValidator(_enough_to_fit)] = 0


@validated_dataclass
class Settings:
    """Length, interval and seed of a run; see conf/config.yaml."""

    seed: NonNegativeInt = 0
    sweep: Annotated[str, AfterValidator(_folder_name)] = "sweep"
    max_steps: NonNegativeInt = 10_000
    batch_size: Rows = 64
    eval_every: PositiveInt = 250
    log_every: PositiveInt = 50
    solve_threshold: Annotated[float, Field(gt=0, le=1)] = 0.95
    stop_when_solved: bool = True
    precision: Precision = "fp32"
    init_from: Annotated[str, Field(min_length=1)] | None = None
    evaluation: EvaluationSettings = Field(default_factory=EvaluationSettings)
    dry_run: bool = False
    force: bool = False
    optimized_metric: str = "val/accuracy"


_INSTEAD = {
    "max_steps": "max_steps",
    "max_epochs": "max_steps",
    "min_steps": None,
    "min_epochs": None,
    "max_time": "hydra.launcher.timeout_min",
    "val_check_interval": "eval_every",
    "check_val_every_n_epoch": "eval_every",
    "limit_train_batches": "max_steps",
    "limit_val_batches": "evaluation.validation_samples",
    "limit_test_batches": "evaluation.test_samples",
    "limit_predict_batches": None,
    "overfit_batches": "task.train_samples",
    "fast_dev_run": "experiment=smoke",
    "num_sanity_val_steps": None,
    "reload_dataloaders_every_n_epochs": None,
    "use_distributed_sampler": None,
    "log_every_n_steps": "log_every",
    "accelerator": "hardware.accelerator",
    "devices": "hardware.devices",
    "precision": "precision",
    "logger": "logger",
    "callbacks": "callbacks",
    "plugins": None,
    "enable_checkpointing": None,
    "default_root_dir": "hydra.run.dir",
    "gradient_clip_val": "optimizer.clip_norm",
    "gradient_clip_algorithm": "optimizer.clip_norm",
    "barebones": None,
    "model_registry": None,
}
"""Trainer arguments that would break exact resume or that a config key sets, with that key."""


def check_trainer_options(options: dict[str, Any], accepted: list[str]) -> dict[str, Any]:
    """Return the Trainer arguments that are set.

    Raises:
        InputError: an unknown argument, or one that Forethought sets itself.
    """
    allowed = sorted(set(accepted) - _INSTEAD.keys())
    for key, value in options.items():
        if key in _INSTEAD:
            use = f"use {_INSTEAD[key]}" if _INSTEAD[key] else "Forethought sets it itself"
            raise InputError(
                f"trainer.{key}={as_typed(value)}: not supported, as resuming must be exact; {use}"
            )
        if key not in allowed:
            raise InputError(f"trainer.{key}={as_typed(value)}: no such key; {expected_one_of(allowed, key)}")
    return {key: value for key, value in options.items() if value is not None}
