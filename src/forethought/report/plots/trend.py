"""A measure along one parameter, a line for each value of another."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from forethought.report.axes import MOST_LINES
from forethought.report.groups import Group, Sweep
from forethought.report.names import short
from forethought.report.plots.panels import LEGEND_ROW, MOST_PANELS, cut, evenly, legend, panels
from forethought.report.plots.style import LINES, MUTED, percent_axis
from forethought.report.seeds import Quartiles, quartiles, wilson
from forethought.report.varying import label
from forethought.report.wording import shorten, value

TITLE = "Along one parameter"
CAPTION = (
    "The dots are the share of seeds that solved the task, the bars its 95 % interval (Wilson); of a metric "
    "that was asked for, the median over seeds and its quartiles. Where two bars hardly overlap, settings "
    "differ. The parameter's values stand at equal distances."
)

_WIDTH = 0.5  # of the distance between two values: over this the lines stand side by side


def draw(sweep: Sweep) -> Figure | None:
    x, line = sweep.axes.x, _line(sweep)
    if x is None or (line is None and sweep.axes.hue is not None):
        return None
    rest = [key for key in sweep.keys if key not in (x, line)]
    facets: dict[str, list[Group]] = {}
    for group in sweep.groups:
        facets.setdefault(label(group.runs[0], rest) if rest else "", []).append(group)
    shown = evenly(list(facets), MOST_PANELS)
    names = [value(level) for level in sweep.levels(line)] if line else [""]
    levels = [value(level) for level in sweep.levels(x)]
    head = 0.1 + LEGEND_ROW * ((len(names) + 1) // 2 if line else 0)
    measure = "seeds solved" if sweep.axes.metric is None else f"median {short(sweep.axes.metric)}"
    xlabel = short(x) + cut(len(facets), len(shown))
    figure, grid = panels([(title, "") for title in shown], xlabel, height=1.75, head=head)
    for title, axes in zip(shown, grid, strict=True):
        for number, name in enumerate(names):
            at = [group for group in facets[title] if not line or value(group.settings.get(line)) == name]
            offset = _WIDTH * ((number + 0.5) / len(names) - 0.5)
            places = [levels.index(value(group.settings.get(x))) + offset for group in at]
            _draw(axes, places, [_measure(group, sweep.axes.metric) for group in at], number)
        axes.set_xticks(range(len(levels)), labels=[shorten(level, 12) for level in levels])
        axes.set_xlim(-0.5, len(levels) - 0.5)
        if sweep.axes.metric is None:
            axes.set_ylim(-0.06, 1.06)
            percent_axis(axes.yaxis)
    figure.supylabel(measure, fontsize=10, color=MUTED)
    if line:
        legend(figure, [(name, *LINES[number]) for number, name in enumerate(names)])
    return figure


def _line(sweep: Sweep) -> str | None:
    """The parameter whose values get a line each: so few that colours tell them apart."""
    for key in (sweep.axes.hue, sweep.axes.y):
        if key is not None and len(sweep.levels(key)) <= MOST_LINES:
            return key
    return None


def _measure(group: Group, metric: str | None) -> Quartiles | None:
    if metric is not None:
        return quartiles(group.values(metric))
    solved, seeds = len(group.solved), len(group.finished)
    low, high = wilson(solved, seeds)
    return Quartiles(low, solved / seeds, high) if seeds else None


def _draw(axes: Any, places: list[float], measures: list[Quartiles | None], number: int) -> None:
    there = [(place, found) for place, found in zip(places, measures, strict=True) if found is not None]
    colour, marker = LINES[number]
    axes.plot(
        [place for place, _ in there],
        [found.median for _, found in there],
        color=colour,
        linewidth=1.4,
        marker=marker,
        markersize=5.5,
        zorder=3,
        clip_on=False,
    )
    for place, found in there:
        axes.plot([place] * 2, [found.low, found.high], color=colour, linewidth=3, alpha=0.3, zorder=2)
