"""How many seeds solved it, and how sure that is."""

from __future__ import annotations

from matplotlib.figure import Figure

from forethought.report.groups import Sweep
from forethought.report.plots.panels import one_row_each, track
from forethought.report.plots.style import BLUE, INK
from forethought.report.seeds import wilson

TITLE = "Seeds that solved it"
CAPTION = (
    "The dot is the share of seeds that solved the task, the bar its 95 % interval (Wilson). Two seeds say "
    "little: the bar stays wide. Where two bars hardly overlap, the settings differ."
)


def draw(sweep: Sweep) -> Figure | None:
    groups = [group for group in sweep.groups if group.finished]
    if not groups or sweep.axes.x is not None:  # then `trend` or `heat_map` say it
        return None
    figure, axes, rows = one_row_each(groups, "seeds that solved the task", height=0.52)
    for group, top in rows:
        solved, seeds = len(group.solved), len(group.finished)
        middle = top + 0.36
        track(axes, middle)
        axes.plot(wilson(solved, seeds), [middle] * 2, color=BLUE, linewidth=5, alpha=0.3, zorder=2)
        axes.plot(solved / seeds, middle, "o", color=BLUE, markersize=8.5, zorder=3, clip_on=False)
        axes.text(1.04, middle, f"{solved} of {seeds}", va="center", fontsize=10, color=INK)
    return figure
