"""Phase diagram: solve rate over two swept parameters, with a panel for each objective and its options."""

from itertools import groupby
from typing import Any

import pandas as pd
from matplotlib import colormaps
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from forethought.report.names import shorten_name
from forethought.report.objectives import BASELINE
from forethought.report.plots.grouping import MOST_LINES, Panel, count_solved, split_panels
from forethought.report.plots.layout import create_panels, draw_colour_bar, format_percent, panel_width
from forethought.report.plots.style import INK, PALE
from forethought.report.plots.titles import abbreviate, text_width, wrap_text
from forethought.report.sweep import Sweep
from forethought.report.wording import format_number, format_share, is_share
from forethought.results.frame import format_value

TITLE = "Phase diagram"
CAPTION = (
    "Solve rate over two swept parameters, with a panel for each objective and its options. A field "
    "gives the seeds that solved the task, of the finished seeds; colours go from 0 to 100 % in every "
    "report. Hatched fields have no finished run. The column `base` is next-token prediction where it lacks "
    "a parameter. With `--metric`, a field gives the median over seeds."
)

_COLOURS = colormaps["Blues"]
_ASIDE = -1.25
"""Place of runs that lack a parameter of the plane, beside the fields of those that have it."""


def draw(sweep: Sweep) -> Figure | str | None:
    x, y, metric = *_choose_plane(sweep), sweep.axes.metric
    if x is None or y is None:
        return None
    if sweep.finished.empty or (metric and sweep.finished[metric].isna().all()):
        return f"no finished run has a value of {metric}" if metric else "no run is finished"
    baseline = sweep.runs["objective"] == BASELINE
    lacking = sweep.runs.loc[baseline, [x, y]].isna().any()
    panels = split_panels(sweep, sweep.runs, [x, y], everywhere=BASELINE if lacking.any() else None)
    across, up = ([format_value(level) for level in sweep.levels(key)] for key in (x, y))
    names = [wrap_text(text, 1.1, 8.5, lines=2) for text in abbreviate(up)]
    left = 0.4 + max(text_width(line, 8.5) for name in names for line in name.split("\n"))
    slots, columns = _arrange(panels)
    side = panel_width(columns, left) / (len(across) - _ASIDE * lacking[x])
    height = (len(up) - _ASIDE * lacking[y]) * max(0.18, min(side, 0.36))
    norm = _choose_norm(sweep)
    figure, grid = create_panels(
        slots, shorten_name(x), shorten_name(y), height=height, head=0.45, columns=columns, left=left
    )
    _set_ticks(grid[0], across, names, lacking)
    for panel, axes in zip(panels, grid, strict=True):
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        for place, runs in _collect_fields(panel.runs, x, y, across, up).items():
            _draw_field(axes, place, runs[runs["status"] == "finished"], metric, norm, side)
    title = f"Median {shorten_name(metric)} over seeds" if metric else "Solve rate: seeds solved of finished"
    percent = metric is None or is_share(metric)
    draw_colour_bar(
        figure,
        title,
        norm,
        _COLOURS,
        [norm.vmin or 0, norm.vmax or 0],
        format_percent if percent else format_number,
    )
    return figure


def _choose_plane(sweep: Sweep) -> tuple[str | None, str | None]:
    """Return the horizontal and the vertical parameter.

    Without a y axis, the objectives become the rows if they are too many for the lines of `trend`.
    """
    hue, y = sweep.axes.hue, sweep.axes.y
    if y is None and hue is not None and len(sweep.levels(hue)) > MOST_LINES:
        y = hue
    return sweep.axes.x, y


def _arrange(panels: list[Panel]) -> tuple[list[str | None], int]:
    """Return titles and the number of columns: a line for each objective if its options fit and fill it."""
    lines = [
        [panel.title for panel in line] for _, line in groupby(panels, lambda p: p.runs["objective"].iloc[-1])
    ]
    most = max(map(len, lines))
    if 1 < most <= 4 and 3 * len(panels) >= 2 * most * len(lines):
        return [title for line in lines for title in line + [None] * (most - len(line))], most
    # Three columns of more panels would be much taller than wide.
    columns = len(panels) if len(panels) <= 4 else 3 if len(panels) <= 21 else 4 if len(panels) <= 28 else 5
    return [panel.title for panel in panels], columns


def _collect_fields(
    runs: pd.DataFrame, x: str, y: str, across: list[str], up: list[str]
) -> dict[tuple[float, float], pd.DataFrame]:
    """Return the runs of each field, also of fields without runs. Other objectives go before the baseline."""
    fields: dict[tuple[float, float], pd.DataFrame] = {
        (i, j): runs.iloc[:0] for i in range(len(across)) for j in range(len(up))
    }
    for _, part in runs.groupby(runs["objective"] != BASELINE):
        for levels, inside in part.groupby([part[key].map(format_value) for key in (x, y)]):
            i, j = (
                known.index(level) if level in known else _ASIDE
                for level, known in zip(levels, (across, up), strict=True)
            )
            fields[i, j] = inside
    return fields


def _draw_field(
    axes: Any,
    place: tuple[float, float],
    runs: pd.DataFrame,
    metric: str | None,
    norm: Normalize,
    side: float,
) -> None:
    x, y = place
    value, text = None, ""
    if metric is None and len(runs):
        solved, finished = count_solved(runs)
        value, text = solved / finished, f"{solved}/{finished}"
    elif metric is not None and runs[metric].notna().any():
        value = runs[metric].median()
        text = format_share(value) if is_share(metric) else format_number(value)
    look = (
        {"facecolor": "white", "hatch": "/////", "edgecolor": PALE}
        if value is None
        else {"facecolor": _COLOURS(norm(value)), "edgecolor": "white"}
    )
    axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, linewidth=0.8, **look))
    size = min(9.0, 0.85 * 9 * side / text_width(text, 9)) if text else 0
    if size >= 4:  # Smaller text is illegible.
        dark = value is not None and norm(value) > 0.55
        axes.text(
            x, y, text, ha="center", va="center_baseline", fontsize=size, color="white" if dark else INK
        )


def _choose_norm(sweep: Sweep) -> Normalize:
    metric = sweep.axes.metric
    if metric is None or is_share(metric):
        return Normalize(0, 1)
    medians = sweep.finished.groupby("setting", observed=True)[metric].median()
    return Normalize(medians.min(), medians.max() if medians.max() > medians.min() else medians.min() + 1)


def _set_ticks(axes: Any, across: list[str], up: list[str], lacking: Any) -> None:
    """Set the ticks of all panels. The fields beside the plane are those of the baseline."""
    for axis, names, aside in zip(
        (axes.xaxis, axes.yaxis), (abbreviate(across, 10), up), lacking, strict=True
    ):
        places = [_ASIDE] * bool(aside) + list(range(len(names)))
        axis.set_ticks(places, labels=["base"] * bool(aside) + names)
    axes.set(
        xlim=(-0.5 + _ASIDE * lacking.iloc[0], len(across) - 0.5),
        ylim=(-0.5 + _ASIDE * lacking.iloc[1], len(up) - 0.5),
    )
