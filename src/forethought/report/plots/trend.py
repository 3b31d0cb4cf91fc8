"""Solve rate or a metric along one swept parameter, with a line for each value of another."""

from typing import Any

from matplotlib.figure import Figure

from forethought.report.axes import MOST_LINES
from forethought.report.groups import Group, Sweep
from forethought.report.names import shorten_name
from forethought.report.plots.panels import (
    MOST_PANELS,
    create_panels,
    describe_omission,
    draw_legend,
    legend_height,
    take_evenly,
)
from forethought.report.plots.style import LINES, MUTED, set_percent_ticks
from forethought.report.seeds import Quartiles, quartiles, wilson
from forethought.report.wording import format_value, truncate

TITLE = "Trend along one parameter"
CAPTION = (
    "The dots are the share of seeds that solved the task, the bars its 95 % interval (Wilson). With "
    "`--metric`, the dots are the median over seeds and the bars the quartiles. If two bars hardly overlap, "
    "the settings differ. The values of the parameter are drawn at equal distances."
)

_SPREAD = 0.5  # width of the offsets between lines, as a share of the distance between two values


def draw(sweep: Sweep) -> Figure | None:
    x, line = sweep.axes.x, _choose_line_parameter(sweep)
    if x is None or (line is None and sweep.axes.hue is not None):
        return None
    facets = sweep.facets(x, line)
    shown = take_evenly(list(facets), MOST_PANELS)
    names = [format_value(level) for level in sweep.levels(line)] if line else [""]
    levels = [format_value(level) for level in sweep.levels(x)]
    head = legend_height(names) if line else 0.1
    measure = "seeds solved" if sweep.axes.metric is None else f"median {shorten_name(sweep.axes.metric)}"
    xlabel = shorten_name(x) + describe_omission(len(facets), len(shown))
    figure, grid = create_panels([(title, "") for title in shown], xlabel, height=1.75, head=head)
    for title, axes in zip(shown, grid, strict=True):
        for number, name in enumerate(names):
            offset = _SPREAD * ((number + 0.5) / len(names) - 0.5)
            points = [
                (levels.index(group.format_level(x)) + offset, summary)
                for group in facets[title]
                if not line or group.format_level(line) == name
                if (summary := _summarise(group, sweep.axes.metric)) is not None
            ]
            _draw_line(axes, points, number)
        axes.set_xticks(range(len(levels)), labels=[truncate(level, 12) for level in levels])
        axes.set_xlim(-0.5, len(levels) - 0.5)
        if sweep.axes.metric is None:
            axes.set_ylim(-0.06, 1.06)
            set_percent_ticks(axes.yaxis)
    figure.supylabel(measure, fontsize=10, color=MUTED)
    if line:
        draw_legend(figure, names)
    return figure


def _choose_line_parameter(sweep: Sweep) -> str | None:
    """Return the parameter with a line for each value. None if it has more values than colours."""
    for key in (sweep.axes.hue, sweep.axes.y):
        if key is not None and len(sweep.levels(key)) <= MOST_LINES:
            return key
    return None


def _summarise(group: Group, metric: str | None) -> Quartiles | None:
    if metric is not None:
        return quartiles(group.collect_values(metric))
    solved, seeds = len(group.solved), len(group.finished)
    low, high = wilson(solved, seeds)
    return Quartiles(low, solved / seeds, high) if seeds else None


def _draw_line(axes: Any, points: list[tuple[float, Quartiles]], number: int) -> None:
    colour, marker = LINES[number]
    axes.plot(
        [x for x, _ in points],
        [summary.median for _, summary in points],
        color=colour,
        linewidth=1.4,
        marker=marker,
        markersize=5.5,
        zorder=3,
        clip_on=False,
    )
    for x, summary in points:
        axes.plot([x] * 2, [summary.low, summary.high], color=colour, linewidth=3, alpha=0.3, zorder=2)
