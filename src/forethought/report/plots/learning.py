"""Learning curves: validation accuracy of whole answers and of the decision token."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from forethought.report.objectives import BASELINE
from forethought.report.plots.panels import (
    Key,
    arrange_lines,
    create_panels,
    draw_chance,
    format_large,
    format_solved,
    set_percent,
    split_panels,
)
from forethought.report.plots.style import FORCED, FREE
from forethought.report.sweep import Sweep

TITLE = "Learning curves"
CAPTION = (
    "Validation accuracy during training; the dashed line is chance. A plateau at chance that ends in a jump "
    "means that the model has found a plan. Thin lines are seeds, thick lines their median; a run that solved "
    "the task may end early. With few settings: whole answers and the decision token. With many: whole "
    "answers, with a line for each objective."
)

_ANSWER, _DECISION = "val/accuracy", "val/decision_accuracy"
_MOST_DETAILED = 8


def draw(sweep: Sweep) -> Figure | str | None:
    if _ANSWER not in sweep.curves or sweep.curves[_ANSWER].isna().all():
        return "the runs have no curve of the validation accuracy"
    tables = {folder: table.set_index("step") for folder, table in sweep.curves.groupby("folder")}
    runs = sweep.runs[sweep.runs["folder"].isin(tables)]
    if runs["setting"].nunique() <= _MOST_DETAILED:
        settings = split_panels(sweep, runs, [])
        titles = [setting.title for setting in settings]
        parts = [
            [(setting.runs, _DECISION, {"color": FORCED}, 3.2), (setting.runs, _ANSWER, {"color": FREE}, 1.6)]
            for setting in settings
        ]
        key = Key([("whole answer, free-running", {"color": FREE}), ("decision token", {"color": FORCED})])
        layout: dict[str, Any] = {"notes": [format_solved(setting.runs) for setting in settings]}
        note = ""
    else:
        lines = arrange_lines(sweep, runs, [])
        titles, key, note = lines.titles, lines.key, lines.note
        parts = [
            [
                (line, _ANSWER, {"color": look.color, "linestyle": look.linestyle}, 1.2 if name == BASELINE else 1.8)
                for name, look, line in panel.lines
            ]
            for panel in lines.panels
        ]
        layout = {"columns": lines.columns, "height": 0.75}
    figure, grid = create_panels(titles, "training steps" + note, "right answers", head=key.height, **layout)
    key.draw(figure)
    for axes, panel in zip(grid, parts, strict=True):
        for line, column, look, width in panel:
            curves = [tables[folder][column].dropna() for folder in line["folder"] if column in tables[folder]]
            _draw_curves(axes, curves, look, width)
            for chance in line.get("test/chance", pd.Series(dtype=float)).dropna().unique():
                draw_chance(axes, chance)
    set_percent(grid[0])
    grid[0].set_xlim(left=0)
    grid[0].xaxis.set_major_locator(MaxNLocator(4 if grid[0].get_position().width > 0.25 else 2))
    grid[0].xaxis.set_major_formatter(format_large)
    return figure


def _draw_curves(axes: Any, curves: list[pd.Series], look: dict[str, Any], width: float) -> None:
    for curve in curves:
        axes.plot(curve.index, curve, color=look["color"], linewidth=0.6, alpha=0.5, zorder=2)
        axes.plot(curve.index[-1:], curve[-1:], "o", color=look["color"], markersize=2.5, zorder=3)
    if len(curves) > 1:
        # Extend the last value of a run that ended early.
        table = pd.concat(curves, axis=1).sort_index().interpolate("index", limit_area="inside").ffill()
        middle = table.quantile(interpolation="lower", axis=1)  # Between two seeds lies no run.
        axes.plot(middle.index, middle, linewidth=width, zorder=4, **look)
    elif curves:
        axes.plot(curves[0].index, curves[0], linewidth=width, zorder=4, **look)
