"""Learning curves: validation accuracy of whole answers and of the decision token, or creativity."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from forethought.report.objectives import BASELINE
from forethought.report.plots.grouping import arrange_lines, count_solved, split_panels
from forethought.report.plots.layout import (
    Key,
    create_panels,
    draw_chance,
    draw_seeds,
    format_large,
    set_percent,
)
from forethought.report.plots.style import FORCED, FREE, Look
from forethought.report.sweep import Sweep

TITLE = "Learning curves"
CAPTION = (
    "Validation accuracy during training; the dashed line is chance. A plateau at chance that ends in a jump "
    "means that the model has found a plan. Thin lines are seeds, thick lines their median; a run that "
    "solved the task may end early. With few settings: whole answers and the decision token. With many: "
    "whole answers, with a line for each objective. Open-ended tasks: creativity in place of the decision "
    "token, or of whole answers."
)

_ANSWER, _DECISION, _CREATIVITY = "val/accuracy", "val/decision_accuracy", "val/creativity"
_MOST_DETAILED = 8


def draw(sweep: Sweep) -> Figure | str | None:
    if _ANSWER not in sweep.curves or sweep.curves[_ANSWER].isna().all():
        return "the runs have no curve of the validation accuracy"
    # The rows of validation alone: the training loss has several times as many.
    drawn = sweep.curves.columns.intersection([_ANSWER, _DECISION, _CREATIVITY])
    curves_of_runs = sweep.curves.set_index("step")[["folder", *drawn]].dropna(how="all", subset=drawn)
    tables = dict(list(curves_of_runs.groupby("folder")))
    runs = sweep.runs[sweep.runs["folder"].isin(tables)]
    detailed = runs["setting"].nunique() <= _MOST_DETAILED
    figure, panels = (_create_detailed if detailed else _create_lines)(sweep, runs)
    # Set the limits of all panels first: autoscaling each of them takes longer than drawing.
    first = panels[0][1]
    set_percent(first)
    first.set_xlim(0, 1.02 * sweep.curves["step"].max())
    first.xaxis.set_major_locator(MaxNLocator(4 if first.get_position().width > 0.25 else 2))
    first.xaxis.set_major_formatter(format_large)
    for curves, axes in panels:
        for part, column, width, style in curves:
            seeds = [tables[folder][column].dropna() for folder in part["folder"] if column in tables[folder]]
            _draw_curve(axes, seeds, linewidth=width, **style)
            if column != _CREATIVITY:
                draw_chance(axes, part.get("test/chance", pd.Series(dtype=float)).dropna())
    return figure


def _has_creativity(sweep: Sweep) -> bool:
    return _CREATIVITY in sweep.curves and bool(sweep.curves[_CREATIVITY].notna().any())


_Curve = tuple[pd.DataFrame, str, float, dict[str, Any]]
"""Runs, column of the curves, width and style of the median."""


def _create_detailed(sweep: Sweep, runs: pd.DataFrame) -> tuple[Figure, list[tuple[list[_Curve], Any]]]:
    """Create a panel for each setting, with a curve of whole answers and another one."""
    panels = split_panels(sweep, runs)
    other, name = (_CREATIVITY, "creativity") if _has_creativity(sweep) else (_DECISION, "decision token")
    key = Key([("whole answer, free-running", {"color": FREE}), (name, {"color": FORCED})])
    notes = ["{} of {} solved".format(*count_solved(panel.runs)) for panel in panels]
    titles = [panel.title for panel in panels]
    figure, grid = create_panels(titles, "training steps", "right answers", key=key, notes=notes)
    curves: list[list[_Curve]] = [
        [(panel.runs, other, 3.2, {"color": FORCED}), (panel.runs, _ANSWER, 1.6, {"color": FREE})]
        for panel in panels
    ]
    return figure, list(zip(curves, grid, strict=True))


def _create_lines(sweep: Sweep, runs: pd.DataFrame) -> tuple[Figure, list[tuple[list[_Curve], Any]]]:
    """Create panels with a curve for each objective."""
    layout = arrange_lines(sweep, runs, marked=False)
    column, label = (_CREATIVITY, "creativity") if _has_creativity(sweep) else (_ANSWER, "right answers")
    figure, panels = layout.create("training steps", label, height=0.75)

    def style(name: str, look: Look) -> tuple[float, dict[str, Any]]:
        return 1.2 if name == BASELINE else 1.8, {"color": look.color, "linestyle": look.linestyle}

    return figure, [
        ([(part, column, *style(name, look)) for name, look, part in lines], axes) for lines, axes in panels
    ]


def _draw_curve(axes: Any, seeds: list[pd.Series], color: str, **style: Any) -> None:
    """Draw each seed, and the median, for which a run that ended early keeps its last value."""
    if seeds:
        draw_seeds(axes, ((seed.index, seed) for seed in seeds), color)
        axes.plot(
            [seed.index[-1] for seed in seeds],
            [seed.iloc[-1] for seed in seeds],
            "o",
            color=color,
            markersize=2.5,
        )
        table = pd.concat(seeds, axis=1).sort_index().interpolate("index", limit_area="inside").ffill()
        # Of an even number of seeds, the lower middle one: between two seeds lies no run.
        axes.plot(table.index, table.quantile(axis=1, interpolation="lower"), color=color, zorder=4, **style)
