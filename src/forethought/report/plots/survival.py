"""Time to solve: Kaplan-Meier curves of the share of seeds that solved the task, against training rows.

`compute` draws the same curves against floating-point operations.
"""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from forethought.report.plots.grouping import MOST_LINES, Line, arrange_lines, pool_settings
from forethought.report.plots.layout import Key, format_large, set_percent
from forethought.report.plots.style import Look
from forethought.report.plots.titles import fit_labels, text_width
from forethought.report.seeds import kaplan_meier
from forethought.report.sweep import Sweep

TITLE = "Time to solve"
CAPTION = (
    "Share of seeds that solved the task within so many training rows (Kaplan-Meier). A run that had not "
    "solved it at the end of its budget counts as unsolved up to there (tick). Compare curves at the same "
    "number of rows: a fixed budget can reverse the order of two objectives. Curves that coincide are drawn "
    "a little apart. With up to three curves, a band is the 95 % interval: Wilson's, for the effective "
    "number of runs (Rothman, 1978)."
)

_MOST_PANELS = 12
_MOST_BANDS = 3  # More of them cannot be told apart.
_LABEL = 0.17  # inches for each name at the end of a line


def draw(sweep: Sweep) -> Figure | str | None:
    return draw_curves(sweep, "samples_seen", "training rows")


def draw_curves(sweep: Sweep, measure: str, unit: str) -> Figure | str | None:
    """Draw the share of seeds that solved the task against what training took.

    Args:
        measure: column of what the whole training took; proportional to its steps.
        unit: label of the horizontal axis.
    """
    runs = sweep.finished[sweep.finished[measure] > 0]
    if runs["steps_to_solve"].isna().all():
        return "no seed solved the task within its budget"
    runs = runs.assign(spent=runs[measure], at=runs[measure] / runs["steps"] * runs["steps_to_solve"])
    hue = sweep.axes.hue or sweep.axes.x
    # Many lines need one panel, with a name at each.
    most = 1 if hue is not None and len(sweep.levels(hue)) > MOST_LINES else _MOST_PANELS
    _, pooled, note = pool_settings(sweep, runs, most, [hue])
    layout = arrange_lines(sweep, runs, pooled, most_lines=len(runs), marked=False)
    options: dict[str, Any] = {"height": 1.0}
    if single := len(layout.lines) == 1:
        names = fit_labels([line.name for line in layout.lines[0]], 1.4, 9, lines=1)
        lines = [line._replace(name=name) for line, name in zip(layout.lines[0], names, strict=True)]
        layout = layout._replace(lines=[lines], key=Key())
        right = 0.35 + max(text_width(f"{name} 00/00", 9) for name in names)
        options = {"height": max(2.2, _LABEL * len(names)), "right": right}
    figure, panels = layout.create(f"{unit}{note}", "seeds solved", **options)
    first, last = runs["at"].min(), runs["spent"].max()
    axes = panels[0][1]
    set_percent(axes)
    axes.xaxis.set_major_locator(MaxNLocator(5 if single else 3))
    if last > 30 * first:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(numticks=5))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(first / 2 if last > 30 * first else 0, last * 1.02)
    axes.xaxis.set_major_formatter(format_large)
    for lines, axes in panels:
        # Move the curves apart a little: most of them share their steps.
        offsets = np.linspace(1, -1, len(lines)) * min(0.04, 0.006 * (len(lines) - 1))
        ends = [
            _draw_curve(axes, look, line, last, offset, band=len(lines) <= _MOST_BANDS)
            for (_, look, line), offset in zip(lines, offsets, strict=True)
        ]
        if single:
            _draw_labels(axes, lines, ends)
    return figure


def _draw_labels(axes: Any, lines: list[Line], ends: list[float]) -> None:
    """Write the name of each line at its end, moved apart where lines end together."""
    order = sorted(range(len(lines)), key=lambda number: (ends[number], -number))
    width, height = axes.get_position().size * axes.figure.get_size_inches()
    gap = _LABEL / height * 1.13  # of the limits of the vertical axis
    places: list[float] = []
    for number in order:
        places.append(max(ends[number], places[-1] + gap if places else 0.0))
    top = 1.05
    for rank in reversed(range(len(places))):
        places[rank] = top = min(places[rank], top)
        top -= gap
    right = axes.get_xlim()[1]
    for number, place in zip(order, places, strict=True):
        name, look, runs = lines[number]
        solved = runs["at"].notna().sum()
        axes.annotate(
            f"{name} {solved}/{len(runs)}",
            (right, ends[number]),
            (1 + 0.2 / width, place),
            textcoords=axes.get_yaxis_transform(),
            color=look.color,
            fontsize=9,
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": look.color,
                "linewidth": 0.7,
                "shrinkA": 1,
                "shrinkB": 0,
                "relpos": (0, 0.5),
            },
        )


def _draw_curve(axes: Any, look: Look, runs: pd.DataFrame, right: float, offset: float, band: bool) -> float:
    """Draw the curve of a line, and a tick where runs end unsolved. Return the share at the end."""
    solved = runs["at"].notna()
    steps = kaplan_meier(runs["at"].fillna(runs["spent"]), solved)
    times, shares = [step.time for step in steps], [step.share for step in steps]
    if band:
        if shares[-1] == 1:
            steps.append(steps[-1]._replace(time=right))
        ends, lows, highs = zip(*((step.time, step.low, step.high) for step in steps), strict=True)
        axes.fill_between(ends, lows, highs, step="post", color=look.color, alpha=0.12, linewidth=0, zorder=1)
    style = {"color": look.color, "linestyle": look.linestyle, "linewidth": 1.6}
    stays = [1 + offset] * (shares[-1] == 1)  # A curve that has reached 1 stays there.
    shares = [share + offset for share in shares]
    axes.step([*times, *([right] * len(stays))], [*shares, *stays], where="post", zorder=3, **style)
    for end in runs.loc[~solved, "spent"].unique():
        axes.plot(
            end,
            shares[int(np.searchsorted(times, end, "right")) - 1],
            "|",
            color=look.color,
            markersize=7,
            zorder=3,
        )
    return shares[-1]
