"""Solve rate of each setting with its confidence interval, where no parameter is an axis."""

from matplotlib.figure import Figure

from forethought.report.plots.grouping import count_solved, pool_settings
from forethought.report.plots.layout import create_rows
from forethought.report.plots.style import look_of_runs
from forethought.report.seeds import wilson
from forethought.report.sweep import Sweep

TITLE = "Solve rate"
CAPTION = (
    "The dot is the share of seeds that solved the task, the bar its 95 % interval (Wilson). With two seeds, "
    "the interval is wide. If two bars hardly overlap, the settings differ."
)


def draw(sweep: Sweep) -> Figure | str | None:
    if sweep.axes.x is not None:  # `trend` shows the rates.
        return None
    if sweep.finished["setting"].nunique() < 2:
        return "there are no two settings with finished runs to compare"
    rows, _, note = pool_settings(sweep, sweep.finished)
    figure, axes, middles = create_rows(
        [row.title for row in rows], f"seeds that solved the task{note}", [0.26] * len(rows), right=0.45
    )
    for row, middle in zip(rows, middles, strict=True):
        (solved, finished), colour = count_solved(row.runs), look_of_runs(row.runs).color
        axes.plot(wilson(solved, finished), [middle] * 2, color=colour, linewidth=4.5, alpha=0.3, zorder=2)
        axes.plot(solved / finished, middle, "o", color=colour, markersize=6.5, zorder=3, clip_on=False)
        axes.text(1.04, middle, f"{solved}/{finished}", va="center_baseline", fontsize=9)
    return figure
