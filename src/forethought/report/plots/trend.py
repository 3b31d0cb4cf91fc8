"""Solve rate or a metric along one swept parameter, with a line for each objective."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from forethought.report.names import shorten_name
from forethought.report.objectives import BASELINE
from forethought.report.plots.panels import (
    arrange_lines,
    count_solved,
    create_panels,
    is_share,
    set_percent,
)
from forethought.report.plots.style import WIDTH, Look
from forethought.report.plots.titles import fit_labels
from forethought.report.seeds import wilson
from forethought.report.sweep import Sweep
from forethought.results.frame import format_value
from forethought.report.wording import is_number

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
    x, metric = choose_parameter(sweep), sweep.axes.metric
    if x is None:
        return None
    runs = sweep.finished if metric is None else sweep.finished[sweep.finished[metric].notna()]
    if runs[x].isna().all():
        return f"no finished run has a value of {metric}" if metric else "no run is finished"
    levels = [format_value(level) for level in sweep.levels(x)]
    layout = arrange_lines(sweep, runs, [x], marked=True)
    if layout.note and sweep.axes.y is not None:
        return f"{layout.note.split(' of ')[1].split(',')[0]} would be needed; the phase diagram shows the same"
    measure = "seeds solved" if metric is None else f"median {shorten_name(metric)}"
    head = layout.key.height
    figure, grid = create_panels(
        layout.titles, shorten_name(x) + layout.note, measure, head=head, columns=layout.columns
    )
    layout.key.draw(figure)
    for panel, axes in zip(layout.panels, grid, strict=True):
        for number, (_, look, line) in enumerate(panel.lines):
            offset = _SPREAD * ((number + 0.5) / len(panel.lines) - 0.5)
            _draw_line(axes, look, offset, {
                levels.index(level): _summarise(inside, metric)
                for level, inside in line.groupby(line[x].map(format_value))
                if level in levels
            })
            if (lacking := line[line[x].isna()]).size:
                _draw_reference(axes, look, _summarise(lacking, metric), bool((lacking["objective"] == BASELINE).all()))
    width = grid[0].get_position().width * WIDTH / len(levels)
    texts = fit_labels(levels, max(width, 0.3), 8.5, lines=2)
    grid[0].set_xticks(range(len(levels)), labels=texts)
    grid[0].set_xlim(-0.5, len(levels) - 0.5)
    if metric is None or is_share(metric):
        set_percent(grid[0])
    return figure


def choose_parameter(sweep: Sweep) -> str | None:
    """Return x; or an option of the objectives, if the phase diagram already shows x and y.

    Without x, the first numeric parameter.
    """
    options = [
        key
        for key in sweep.keys
        if key not in (sweep.axes.x, sweep.axes.y, sweep.axes.hue) and all(map(is_number, sweep.levels(key)))
    ]
    if sweep.axes.x is None:
        return next(iter(options), None)
    lacking = [key for key in options if sweep.runs[key].isna().any()]
    shown = sweep.axes.y is not None and sweep.runs[sweep.axes.x].notna().all()
    return lacking[0] if shown and lacking else sweep.axes.x


def _summarise(runs: pd.DataFrame, metric: str | None) -> _Range:
    if metric is not None:
        low, middle, high = runs[metric].quantile([0.25, 0.5, 0.75])
        return low, middle, high
    solved, finished = count_solved(runs)
    low, high = wilson(solved, finished)
    return low, solved / finished, high


def _draw_line(axes: Any, look: Look, offset: float, points: dict[int, _Range]) -> None:
    places = [place + offset for place in points]
    middles = [middle for _, middle, _ in points.values()]
    axes.plot(places, middles, **look._asdict(), linewidth=1.5, markersize=5, zorder=3, clip_on=False)
    for place, (low, _, high) in zip(places, points.values(), strict=True):
        axes.plot([place] * 2, [low, high], color=look.color, linewidth=3, alpha=0.3, zorder=2)


def _draw_reference(axes: Any, look: Look, summary: _Range, band: bool) -> None:
    """Draw the line of runs that lack the parameter. Bands of several lines would hide each other."""
    low, middle, high = summary
    axes.axhline(middle, color=look.color, linestyle=look.linestyle, linewidth=1.5, zorder=2)
    if band:
        axes.axhspan(low, high, color=look.color, alpha=0.12, linewidth=0, zorder=1)
