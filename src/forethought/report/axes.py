"""Choice of the swept parameters for the x axis, the y axis and the colours of the plots."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from forethought.errors import InputError
from forethought.report.names import resolve_name
from forethought.report.wording import is_number


@dataclass(frozen=True)
class Axes:
    """Full names of the parameters to plot. None if there is no parameter for an axis."""

    x: str | None = None
    y: str | None = None
    hue: str | None = None
    metric: str | None = None
    """None selects the share of seeds that solved the task."""


def choose_axes(
    levels: Mapping[str, Sequence[Any]],
    metrics: Iterable[str],
    x: str | None = None,
    y: str | None = None,
    hue: str | None = None,
    metric: str | None = None,
) -> Axes:
    """Return the requested axes, and the best remaining parameters for all other axes.

    The objective gives the colours. The numeric parameter with the most values becomes x, the next one y;
    non-numeric parameters follow, and then numeric ones that some runs lack, such as the horizon of some
    objectives. Flags are used for colours only.

    Args:
        levels: the ordered values of each swept parameter; None where a run has no such parameter.

    Raises:
        InputError: a parameter is not swept or requested twice, or the metric is unknown.
    """
    requested = {
        axis: resolve_name(name, levels, f"--{axis}={name}", "swept parameter")
        for axis, name in (("x", x), ("y", y), ("hue", hue))
        if name is not None
    }
    if len(set(requested.values())) < len(requested):
        options = " ".join(f"--{axis}={key}" for axis, key in requested.items())
        raise InputError(f"{options}: duplicate parameter; expected a different one for each axis")
    free = [key for key in levels if key not in requested.values()]
    if "hue" not in requested and "objective" in free:
        requested["hue"] = "objective"
        free.remove("objective")
    candidates = sorted(
        (key for key in free if _can_be_axis(levels[key])),
        key=lambda key: (None in levels[key], not _is_numeric(levels[key]), -len(levels[key])),
    )
    for axis in ("x", "y"):
        if axis not in requested and candidates:
            requested[axis] = candidates.pop(0)
            free.remove(requested[axis])
    if "hue" not in requested and free:
        requested["hue"] = free[0]
    if metric is not None:
        metric = resolve_name(metric, ["solved", *metrics], f"--metric={metric}", "metric")
    return Axes(**requested, metric=None if metric == "solved" else metric)


def _is_numeric(levels: Sequence[Any]) -> bool:
    return all(is_number(level) for level in levels if level is not None)


def _can_be_axis(levels: Sequence[Any]) -> bool:
    # Compare by type: 1 equals True.
    flag = any(isinstance(level, bool) for level in levels)
    return not flag and (None not in levels or (_is_numeric(levels) and len(levels) > 2))
