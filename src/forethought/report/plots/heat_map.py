"""Where in a plane of two parameters the task is solved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from forethought.report.axes import MOST_LINES
from forethought.report.groups import Group, Sweep
from forethought.report.names import short
from forethought.report.plots.panels import cut, evenly
from forethought.report.plots.style import BAND, INK, MUTED, WIDTH
from forethought.report.varying import label
from forethought.report.wording import number, share, shorten, value

TITLE = "Where it is solved"
CAPTION = (
    "Two swept parameters against each other. Left: seeds that solved it, of those that finished. Right: "
    "the median seed's accuracy, or the metric that was asked for. Darker is more; a grey field was not run."
)

_MOST_FACETS = 8
_MOST_WORDS = 12  # columns, beyond which the fields have no room for numbers

_Field = tuple[int, int]


_Measure = Callable[[Group], tuple[float, str]]
"""How dark a group's field is, NaN where there is nothing to say, and the words in it."""


def draw(sweep: Sweep) -> Figure | None:
    plane = _plane(sweep)
    if plane is None:
        return None
    vertical, horizontal = plane
    up, across = ([value(level) for level in sweep.levels(key)] for key in plane)
    rest = [key for key in sweep.keys if key not in plane]
    facets: dict[str, dict[_Field, Group]] = {}
    for group in sweep.groups:
        row, column = (value(group.settings.get(key)) for key in plane)
        name = label(group.runs[0], rest) if rest else ""
        facets.setdefault(name, {})[up.index(row), across.index(column)] = group
    shown = evenly(list(facets), _MOST_FACETS)
    title, measure = _second(sweep)
    # Long lists of names need rows no higher than their letters.
    height = 0.5 + (0.42 if len(up) <= 8 else 0.2) * len(up)
    engine = ConstrainedLayoutEngine(hspace=0.06, wspace=0.06)
    figure = Figure(figsize=(WIDTH, height * len(shown) + 0.6), layout=engine)
    grid = figure.subplots(len(shown), 2, sharex=True, sharey=True, squeeze=False)
    for name, (left, right) in zip(shown, grid, strict=True):
        _heat(left, facets[name], up, across, _rate)
        _heat(right, facets[name], up, across, measure)
        left.set_title(shorten(f"{name}: seeds solved" if name else "seeds solved", 32), fontsize=9.5)
        right.set_title(title, fontsize=9.5, fontweight="normal")
        left.set_ylabel(short(vertical))
    for axes in grid[-1]:
        axes.set_xlabel(short(horizontal))
    if len(facets) > len(shown):
        figure.supxlabel(cut(len(facets), len(shown)).strip(), fontsize=8.5, color=MUTED)
    return figure


def _plane(sweep: Sweep) -> tuple[str, str] | None:
    """Up and across. Without a second parameter many objectives take its place; few are lines of `trend`."""
    up = sweep.axes.y
    if up is None and sweep.axes.hue is not None and len(sweep.levels(sweep.axes.hue)) > MOST_LINES:
        up = sweep.axes.hue
    return None if up is None or sweep.axes.x is None else (up, sweep.axes.x)


def _heat(
    axes: Any, fields: dict[_Field, Group], up: Sequence[str], across: Sequence[str], measure: _Measure
) -> None:
    heat = np.full((len(up), len(across)), np.nan)
    size = 9 if len(across) <= 4 else 6.5 if len(across) <= 7 else 5
    for (row, column), group in fields.items():
        heat[row, column], words = measure(group)
        if len(across) <= _MOST_WORDS:
            colour = "white" if heat[row, column] > 0.62 else INK
            axes.text(column, row, words, ha="center", va="center", fontsize=size, color=colour)
    axes.imshow(heat, cmap="Blues", vmin=0, vmax=1.1, aspect="auto", origin="lower")
    axes.set_facecolor(BAND)
    axes.spines[:].set_visible(False)
    axes.set_xticks(range(len(across)), labels=[shorten(level, 10) for level in across])
    axes.set_yticks(range(len(up)), labels=[shorten(level, 16) for level in up])
    axes.tick_params(length=0)


def _rate(group: Group) -> tuple[float, str]:
    solved, seeds = len(group.solved), len(group.finished)
    return (solved / seeds, f"{solved}/{seeds}") if seeds else (np.nan, "")


def _second(sweep: Sweep) -> tuple[str, _Measure]:
    """What the right half shows: its title, and the measure, dark where it is largest in the sweep."""
    metric = sweep.axes.metric
    if metric is None:
        return "median accuracy, %", lambda group: _median(group, "test/accuracy", share, 0.0, 1.0)
    medians = [median(found) for group in sweep.groups if (found := group.values(metric))]
    low, high = min(medians, default=0.0), max(medians, default=1.0)
    title = f"median {short(metric)}"
    return title, lambda group: _median(group, metric, number, low, high)


def _median(
    group: Group, metric: str, word: Callable[[float], str], low: float, high: float
) -> tuple[float, str]:
    found = group.values(metric)
    if not found:
        return np.nan, "–" if group.finished else ""
    middle = median(found)
    return ((middle - low) / (high - low) if high > low else 0.5), word(middle)
