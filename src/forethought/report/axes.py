"""Which of a sweep's parameters go along, up and into the colours of its plots."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from forethought.errors import InputError
from forethought.report.names import full_name

MOST_LINES = 7  # colours that can be told apart

Levels = Mapping[str, Sequence[Any]]
"""For each parameter that varies, its values in order; None where a run has no such parameter."""


@dataclass(frozen=True)
class Axes:
    """Parameters by their full names; None: there is none to show."""

    x: str | None = None
    y: str | None = None
    hue: str | None = None
    metric: str | None = None
    """None: the share of seeds that solved it."""


def choose(
    levels: Levels,
    metrics: Iterable[str],
    x: str | None = None,
    y: str | None = None,
    hue: str | None = None,
    metric: str | None = None,
) -> Axes:
    """The axes asked for, and for those not asked for what suits them best.

    The objective gives the colours; the number with the most values goes along, the next one up; where
    numbers run out, named choices take their place. A flag, or what only some runs have, is at most a colour.

    Raises:
        InputError: a parameter that does not vary, one asked for twice, or no such metric.
    """
    asked = {
        axis: full_name(name, levels, f"--{axis}", "parameter that varies here")
        for axis, name in (("x", x), ("y", y), ("hue", hue))
        if name is not None
    }
    if len(set(asked.values())) < len(asked):
        pairs = " ".join(f"--{axis} {key}" for axis, key in asked.items())
        raise InputError(f"{pairs}: expected a different parameter for each")
    free = [key for key in levels if key not in asked.values()]
    if "hue" not in asked and "objective" in free:
        asked["hue"] = "objective"
        free.remove("objective")
    whole = [key for key in free if not {None, True, False} & {v for v in levels[key] if _plain(v)}]
    for axis in ("x", "y"):
        if axis not in asked and whole:
            asked[axis] = min(whole, key=lambda key: (not numeric(levels[key]), -len(levels[key])))
            whole.remove(asked[axis])
            free.remove(asked[axis])
    if "hue" not in asked and free:
        asked["hue"] = free[0]
    if metric is not None:
        metric = full_name(metric, ["solved", *metrics], "--metric", "metric")
    return Axes(**asked, metric=None if metric == "solved" else metric)


def numeric(entries: Sequence[Any]) -> bool:
    return all(isinstance(entry, int | float) and not isinstance(entry, bool) for entry in entries)


def _plain(entry: Any) -> bool:
    """1 equals True, and a list cannot be in a set."""
    return entry is None or isinstance(entry, bool)
