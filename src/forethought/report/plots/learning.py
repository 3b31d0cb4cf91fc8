"""Learning curves: validation accuracy of whole answers and of the decision token."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from forethought.report.axes import MOST_LINES
from forethought.report.groups import Curves, Group, Sweep
from forethought.report.plots.panels import (
    MOST_PANELS,
    create_group_panels,
    create_panel_matrix,
    draw_chance,
    draw_colour_key,
    draw_legend,
    legend_height,
)
from forethought.report.plots.style import FORCED, FREE, LINES, set_percent_ticks
from forethought.report.wording import format_value

TITLE = "Learning curves"
CAPTION = (
    "Validation accuracy during training; the dashed line is chance. A plateau at chance that ends in a jump "
    "means that the model has found a plan. With few settings: whole answers (blue) and the decision token "
    "(orange), one line per seed. With many settings: whole answers, the median over seeds and the band "
    "between the quartiles."
)

_CURVES = (("val/decision_accuracy", FORCED, 2.2), ("val/accuracy", FREE, 1.4))


def draw(sweep: Sweep) -> Figure | None:
    groups = [
        group
        for group in sweep.groups
        if any(column in sweep.curves.get(run.cell, {}) for run in group.runs for column, *_ in _CURVES)
    ]
    if not groups:
        return None
    hue, x = sweep.axes.hue, sweep.axes.x
    if len(groups) > MOST_PANELS and hue and x and len(sweep.levels(hue)) <= MOST_LINES:
        return _draw_medians(sweep, hue, x)
    figure, panels = create_group_panels(groups, "training steps", height=1.9, head=0.5)
    draw_colour_key(figure, [("the whole answer, free-running", FREE), ("the decision token", FORCED)])
    for group, axes in panels:
        _draw_group_chance(axes, group)
        for run in group.runs:
            _draw_run(axes, sweep.curves.get(run.cell, {}))
        _format_axes(axes)
    return figure


def _draw_medians(sweep: Sweep, hue: str, x: str) -> Figure:
    """Draw a panel for each pair of x and y values, with a line for each colour."""
    names = [format_value(level) for level in sweep.levels(hue)]
    figure, panels = create_panel_matrix(sweep, sweep.axes.y, x, "training steps", legend_height(names))
    draw_legend(figure, names, marked=False)
    for groups, axes in panels:
        for group in groups:
            _draw_group_chance(axes, group)
            _draw_median(axes, sweep, group, LINES[names.index(group.format_level(hue))][0])
        _format_axes(axes)
    return figure


def _draw_median(axes: Any, sweep: Sweep, group: Group, colour: str) -> None:
    curves = [sweep.curves[run.cell].get("val/accuracy", ([], [])) for run in group.finished]
    curves = [(steps, shares) for steps, shares in curves if steps]
    if curves:
        all_steps = np.unique(np.concatenate([steps for steps, _ in curves]))
        # A run that solved the task may stop early: extend its last value.
        shares = [np.interp(all_steps, steps, shares) for steps, shares in curves]
        low, middle, high = np.quantile(shares, [0.25, 0.5, 0.75], axis=0)
        axes.fill_between(all_steps, low, high, color=colour, alpha=0.15, linewidth=0, zorder=2)
        axes.plot(all_steps, middle, color=colour, linewidth=1.4, zorder=3)


def _draw_group_chance(axes: Any, group: Group) -> None:
    for chance in set(group.collect_values("test/chance")):
        draw_chance(axes, chance)


def _format_axes(axes: Any) -> None:
    axes.set_ylim(-0.04, 1.06)
    axes.set_xlim(left=0)
    set_percent_ticks(axes.yaxis)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(_format_step))


def _draw_run(axes: Any, curves: Curves) -> None:
    for column, colour, width in _CURVES:
        if column in curves:
            steps, shares = curves[column]
            axes.plot(steps, shares, color=colour, linewidth=width, alpha=0.8, zorder=2)
            # A run that solves the task may stop early: mark its end.
            axes.plot(steps[-1:], shares[-1:], "o", color=colour, markersize=4, zorder=3, clip_on=False)


def _format_step(step: int | float, _: int | None = None) -> str:
    return f"{step / 1000:g}k" if step >= 1000 else f"{step:g}"
