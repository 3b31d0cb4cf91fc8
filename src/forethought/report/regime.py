"""Regime of a run: learning-rate schedule and training data, which can decide an outcome."""

from typing import Any

import pandas as pd

CONSTANT = "constant"


def describe_regime(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the columns `schedule` (`constant`, `cosine`) and `data` (`fresh`, `fixed 200,000`).

    The data of a training file used whole are `fixed file`. A value is missing if the config does not say.
    """
    schedule = runs.get("optimizer.schedule", pd.Series(index=runs.index, dtype=object))
    if "task.train_samples" not in runs:
        data = pd.Series(index=runs.index, dtype=object)
    else:
        files = runs.get("task.train_file", pd.Series(index=runs.index, dtype=object))
        data = pd.Series(map(_describe_data, runs["task.train_samples"], files), index=runs.index)
        data = data.where(runs["task._target_"].notna())  # of a run that failed before its config was read
    return pd.DataFrame({"schedule": schedule, "data": data})


def _describe_data(samples: Any, file: Any) -> str:
    if pd.notna(samples):
        return f"fixed {samples:,.0f}"
    return "fresh" if pd.isna(file) else "fixed file"


def is_decaying(schedule: Any) -> bool:
    """Return True if the learning rate falls during training. `schedule` may join several by ` / `."""
    return isinstance(schedule, str) and schedule not in ("", CONSTANT)
