"""Heat maps of solve rate and accuracy over two swept parameters."""

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from forethought.report.axes import MOST_LINES
from forethought.report.groups import Group, Sweep
from forethought.report.names import shorten_name
from forethought.report.plots.panels import create_grid, describe_omission, take_evenly
from forethought.report.plots.style import BAND, INK, MUTED
from forethought.report.wording import format_number, format_share, format_value, truncate

TITLE = "Solve rate over two parameters"
CAPTION = (
    "Two swept parameters against each other. Left: seeds that solved the task, of the finished "
    "seeds. Right: median accuracy over seeds, or the metric of `--metric`. Darker is higher; "
    "a grey field has no runs."
)

_MOST_FACETS = 8
_MOST_LABELLED = 12  # With more columns, the fields are too narrow for text.

_Field = tuple[int, int]
"""Row and column."""

_Measure = Callable[[Group], tuple[float, str]]
"""Function that returns the darkness of a group's field (NaN without data) and the text in the field."""


def draw(sweep: Sweep) -> Figure | None:
    plane = _choose_plane(sweep)
    if plane is None:
        return None
    vertical, horizontal = plane
    up, across = ([format_value(level) for level in sweep.levels(key)] for key in plane)
    facets = sweep.facets(*plane)
    shown = take_evenly(list(facets), _MOST_FACETS)
    title, measure = _choose_measure(sweep)
    # With many rows, reduce the height to that of the text.
    height = 0.5 + (0.42 if len(up) <= 8 else 0.2) * len(up)
    figure, grid = create_grid(len(shown), 2, height * len(shown) + 0.6, head=0, hspace=0.06, wspace=0.06)
    for name, (left, right) in zip(shown, grid, strict=True):
        fields = {
            (up.index(group.format_level(vertical)), across.index(group.format_level(horizontal))): group
            for group in facets[name]
        }
        _draw_heat(left, fields, up, across, _measure_solve_rate)
        _draw_heat(right, fields, up, across, measure)
        left.set_title(truncate(f"{name}: seeds solved" if name else "seeds solved", 32), fontsize=9.5)
        right.set_title(title, fontsize=9.5, fontweight="normal")
        left.set_ylabel(shorten_name(vertical))
    for axes in grid[-1]:
        axes.set_xlabel(shorten_name(horizontal))
    if len(facets) > len(shown):
        figure.supxlabel(describe_omission(len(facets), len(shown)).strip(), fontsize=8.5, color=MUTED)
    return figure


def _choose_plane(sweep: Sweep) -> tuple[str, str] | None:
    """Return the vertical and the horizontal parameter. None if there are not two.

    Without a y axis, the objectives become the rows if `trend` has not enough colours for them.
    """
    up = sweep.axes.y
    if up is None and sweep.axes.hue is not None and len(sweep.levels(sweep.axes.hue)) > MOST_LINES:
        up = sweep.axes.hue
    return None if up is None or sweep.axes.x is None else (up, sweep.axes.x)


def _draw_heat(
    axes: Any, fields: dict[_Field, Group], up: Sequence[str], across: Sequence[str], measure: _Measure
) -> None:
    heat = np.full((len(up), len(across)), np.nan)
    size = 9 if len(across) <= 4 else 6.5 if len(across) <= 7 else 5
    for (row, column), group in fields.items():
        heat[row, column], text = measure(group)
        if len(across) <= _MOST_LABELLED:
            colour = "white" if heat[row, column] > 0.62 else INK
            axes.text(column, row, text, ha="center", va="center", fontsize=size, color=colour)
    axes.imshow(heat, cmap="Blues", vmin=0, vmax=1.1, aspect="auto", origin="lower")
    axes.set_facecolor(BAND)
    axes.spines[:].set_visible(False)
    axes.set_xticks(range(len(across)), labels=[truncate(level, 10) for level in across])
    axes.set_yticks(range(len(up)), labels=[truncate(level, 16) for level in up])
    axes.tick_params(length=0)


def _measure_solve_rate(group: Group) -> tuple[float, str]:
    solved, seeds = len(group.solved), len(group.finished)
    return (solved / seeds, f"{solved}/{seeds}") if seeds else (np.nan, "")


def _choose_measure(sweep: Sweep) -> tuple[str, _Measure]:
    """Return title and measure of the right half. The darkest field has the largest value of the sweep."""
    metric = sweep.axes.metric
    if metric is None:
        return "median accuracy, %", lambda group: _measure_median(
            group, "test/accuracy", format_share, 0.0, 1.0
        )
    medians = [median(values) for group in sweep.groups if (values := group.collect_values(metric))]
    low, high = min(medians, default=0.0), max(medians, default=1.0)
    title = f"median {shorten_name(metric)}"
    return title, lambda group: _measure_median(group, metric, format_number, low, high)


def _measure_median(
    group: Group, metric: str, format: Callable[[float], str], low: float, high: float
) -> tuple[float, str]:
    values = group.collect_values(metric)
    if not values:
        return np.nan, "–" if group.finished else ""
    middle = median(values)
    return ((middle - low) / (high - low) if high > low else 0.5), format(middle)
