"""Learning curves: the whole answer and the decision, while training."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from forethought.report.axes import MOST_LINES
from forethought.report.curves import Curves
from forethought.report.groups import Group, Sweep
from forethought.report.plots.panels import LEGEND_ROW, MOST_PANELS, key, legend, matrix, small_multiples
from forethought.report.plots.style import FORCED, FREE, LINES, MUTED, percent_axis
from forethought.report.wording import value

TITLE = "Learning curves"
CAPTION = (
    "Validation accuracy while training; dashed is chance. A plateau at chance that ends in a jump is a plan "
    "that was found. Of few settings: whole answers (blue) and the deciding token (orange), one line a seed. "
    "Of many: whole answers, the median seed and the band between the quartiles."
)

_LINES = (("val/decision_accuracy", FORCED, 2.2), ("val/accuracy", FREE, 1.4))


def draw(sweep: Sweep) -> Figure | None:
    groups = [
        group
        for group in sweep.groups
        if any(column in sweep.curves.get(run.cell, {}) for run in group.runs for column, *_ in _LINES)
    ]
    if not groups:
        return None
    hue, x = sweep.axes.hue, sweep.axes.x
    if len(groups) > MOST_PANELS and hue and x and len(sweep.levels(hue)) <= MOST_LINES:
        return _medians(sweep, hue, x)
    figure, panels = small_multiples(groups, "training steps", height=1.9, head=0.5)
    key(figure, [("the whole answer, free-running", FREE), ("the deciding token", FORCED)])
    for group, axes in panels:
        _chance(axes, group)
        for run in group.runs:
            _run(axes, sweep.curves.get(run.cell, {}))
        _axes(axes)
    return figure


def _medians(sweep: Sweep, hue: str, x: str) -> Figure:
    """A panel for each field of the plane, a line for each colour."""
    names = [value(level) for level in sweep.levels(hue)]
    head = 0.1 + LEGEND_ROW * ((len(names) + 1) // 2)
    figure, panels = matrix(sweep, sweep.axes.y, x, "training steps", head)
    legend(figure, [(name, *LINES[number]) for number, name in enumerate(names)], marked=False)
    for merged, axes in panels:
        for group in merged:
            _chance(axes, group)
            _median(axes, sweep, group, LINES[names.index(value(group.settings.get(hue)))][0])
        _axes(axes)
    return figure


def _median(axes: Any, sweep: Sweep, group: Group, colour: str) -> None:
    found = [sweep.curves[run.cell].get("val/accuracy", ([], [])) for run in group.finished]
    found = [(steps, shares) for steps, shares in found if steps]
    if found:
        at = np.unique(np.concatenate([steps for steps, _ in found]))
        # A run that solved the task may stop early: it is taken to stay where it ended.
        shares = [np.interp(at, steps, shares) for steps, shares in found]
        low, middle, high = np.quantile(shares, [0.25, 0.5, 0.75], axis=0)
        axes.fill_between(at, low, high, color=colour, alpha=0.15, linewidth=0, zorder=2)
        axes.plot(at, middle, color=colour, linewidth=1.4, zorder=3)


def _chance(axes: Any, group: Group) -> None:
    for chance in set(group.values("test/chance")):
        axes.axhline(chance, color=MUTED, linewidth=0.9, linestyle=(0, (3, 3)), zorder=1)


def _axes(axes: Any) -> None:
    axes.set_ylim(-0.04, 1.06)
    axes.set_xlim(left=0)
    percent_axis(axes.yaxis)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(_thousands))


def _run(axes: Any, curves: Curves) -> None:
    for column, colour, width in _LINES:
        if column in curves:
            steps, shares = curves[column]
            axes.plot(steps, shares, color=colour, linewidth=width, alpha=0.8, zorder=2)
            # Runs that solve the task may stop early: mark where each ended.
            axes.plot(steps[-1:], shares[-1:], "o", color=colour, markersize=4, zorder=3, clip_on=False)


def _thousands(step: int | float, _: int | None = None) -> str:
    return f"{step / 1000:g}k" if step >= 1000 else f"{step:g}"
