"""Solve rate or a metric along one swept parameter, with a line for each objective."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from forethought.report.names import shorten_name
from forethought.report.objectives import BASELINE
from forethought.report.plots.grouping import arrange_lines, count_solved
from forethought.report.plots.layout import panel_width, set_percent
from forethought.report.plots.style import Look
from forethought.report.plots.titles import fit_labels
from forethought.report.seeds import wilson
from forethought.report.sweep import Sweep
from forethought.report.wording import is_number, is_share
from forethought.results.frame import format_value

TITLE = "Trend along one parameter"
CAPTION = (
    "The dots are the share of seeds that solved the task, the bars its 95 % interval (Wilson). With "
    "`--metric`, the dots are the median over seeds and the bars the quartiles. Objectives without the "
    "parameter are level lines in every panel; the grey band is the baseline's interval. If two bars hardly "
    "overlap, the settings differ. The values of the parameter are drawn at equal distances."
)

_SPREAD = 0.5  # width of the offsets between lines, as a share of the distance between two values

_Range = tuple[float, float, float]
"""Low end, middle and high end."""


def draw(sweep: Sweep) -> Figure | str | None:
    x, metric = _choose_parameter(sweep), sweep.axes.metric
    if x is None:
        return None
    runs = sweep.finished if metric is None else sweep.finished[sweep.finished[metric].notna()]
    if runs[x].isna().all():
        return f"no finished run has a value of {metric}" if metric else "no run is finished"
    layout = arrange_lines(sweep, runs, [x])
    if layout.omitted and sweep.axes.y is not None:
        return "it needs too many panels; the phase diagram shows the same, and --where selects some"
    levels = [format_value(level) for level in sweep.levels(x)]
    names = fit_labels(levels, max(0.3, panel_width(layout.columns) / len(levels)), 8.5, lines=3)
    figure, panels = layout.create(
        shorten_name(x),
        f"median {shorten_name(metric)}" if metric else "seeds solved",
        foot=0.06 + 0.14 * (1 + max(name.count("\n") for name in names)),
    )
    first = panels[0][1]
    first.set_xticks(range(len(levels)), labels=names)
    first.set_xlim(-0.5, len(levels) - 0.5)
    if metric is None or is_share(metric):
        set_percent(first)
    for lines, axes in panels:
        for number, (_, look, line) in enumerate(lines):
            parts = line.groupby(line[x].map(format_value))
            summaries = {level: _summarise(part, metric) for level, part in parts}
            if "null" in summaries:
                is_baseline = bool((line["objective"] == BASELINE).all())
                _draw_reference(axes, look, summaries.pop("null"), band=is_baseline)
            offset = _SPREAD * ((number + 0.5) / len(lines) - 0.5)
            places = sorted((levels.index(level) + offset, summary) for level, summary in summaries.items())
            is_scale = all(map(is_number, sweep.levels(x)))
            _draw_line(axes, look if is_scale else look._replace(linestyle=""), places)
    return figure


def _choose_parameter(sweep: Sweep) -> str | None:
    """Return x, or an option of the objectives if the phase diagram already shows x and y."""
    x, y, hue = sweep.axes.x, sweep.axes.y, sweep.axes.hue
    if y is None or sweep.runs[x].isna().any():
        return x
    options = [
        key
        for key in sweep.keys
        if key not in (x, y, hue) and sweep.runs[key].isna().any() and all(map(is_number, sweep.levels(key)))
    ]
    return options[0] if options else x


def _summarise(runs: pd.DataFrame, metric: str | None) -> _Range:
    if metric is not None:
        low, middle, high = runs[metric].quantile([0.25, 0.5, 0.75])
        return low, middle, high
    solved, finished = count_solved(runs)
    low, high = wilson(solved, finished)
    return low, solved / finished, high


def _draw_line(axes: Any, look: Look, points: list[tuple[float, _Range]]) -> None:
    style = {**look._asdict(), "linewidth": 1.5, "markersize": 5, "zorder": 3, "clip_on": False}
    axes.plot([place for place, _ in points], [middle for _, (_, middle, _) in points], **style)
    for place, (low, _, high) in points:
        axes.plot([place] * 2, [low, high], color=look.color, linewidth=3, alpha=0.3, zorder=2)


def _draw_reference(axes: Any, look: Look, summary: _Range, band: bool) -> None:
    """Draw the line of runs that lack the parameter. Bands of several lines would hide each other."""
    low, middle, high = summary
    axes.axhline(middle, color=look.color, linestyle=look.linestyle, linewidth=1.5, zorder=2)
    if band:
        axes.axhspan(low, high, color=look.color, alpha=0.12, linewidth=0, zorder=1)
