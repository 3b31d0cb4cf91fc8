"""Solve rate of each group with its confidence interval."""

from matplotlib.figure import Figure

from forethought.report.groups import Sweep
from forethought.report.plots.panels import create_rows, draw_track
from forethought.report.plots.style import BLUE, INK
from forethought.report.seeds import wilson

TITLE = "Solve rate"
CAPTION = (
    "The dot is the share of seeds that solved the task, the bar its 95 % interval (Wilson). With two seeds, "
    "the interval is wide. If two bars hardly overlap, the settings differ."
)


def draw(sweep: Sweep) -> Figure | None:
    groups = [group for group in sweep.groups if group.finished]
    if not groups or sweep.axes.x is not None:  # `trend` or `heat_map` show it then.
        return None
    figure, axes, rows = create_rows(groups, "seeds that solved the task", height=0.52)
    for group, top in rows:
        solved, seeds = len(group.solved), len(group.finished)
        middle = top + 0.36
        draw_track(axes, middle)
        axes.plot(wilson(solved, seeds), [middle] * 2, color=BLUE, linewidth=5, alpha=0.3, zorder=2)
        axes.plot(solved / seeds, middle, "o", color=BLUE, markersize=8.5, zorder=3, clip_on=False)
        axes.text(1.04, middle, group.solved_ratio, va="center", fontsize=10, color=INK)
    return figure
