"""Solve rate of each setting with its confidence interval, where no parameter is numeric."""

from matplotlib.figure import Figure

from forethought.report.plots.panels import count_solved, create_rows, pool_settings
from forethought.report.plots.style import look_of_runs
from forethought.report.plots.trend import choose_parameter
from forethought.report.seeds import wilson
from forethought.report.sweep import Sweep

TITLE = "Solve rate"
CAPTION = (
    "The dot is the share of seeds that solved the task, the bar its 95 % interval (Wilson). With two seeds, "
    "the interval is wide. If two bars hardly overlap, the settings differ."
)


def draw(sweep: Sweep) -> Figure | str | None:
    if choose_parameter(sweep) is not None:  # `trend` shows the rates.
        return None
    if sweep.finished.empty:
        return "no run is finished"
    rows, note = pool_settings(sweep, sweep.finished)
    figure, axes, places = create_rows([row.title for row in rows], f"seeds that solved the task{note}", right=0.45)
    for row, (top, height) in zip(rows, places, strict=True):
        solved, finished = count_solved(row.runs)
        colour, middle = look_of_runs(row.runs).color, top + height / 2
        axes.plot(wilson(solved, finished), [middle] * 2, color=colour, linewidth=4.5, alpha=0.3, zorder=2)
        axes.plot(solved / finished, middle, "o", color=colour, markersize=6.5, zorder=3, clip_on=False)
        axes.annotate(
            f"{solved}/{finished}", (1, middle), (10, 0), textcoords="offset points", va="center_baseline",
            fontsize=9, annotation_clip=False,
        )
    return figure
