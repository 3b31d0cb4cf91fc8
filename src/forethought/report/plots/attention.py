"""Attention from the decision to the landmarks of the prompt, by layer, for each setting."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from forethought.report.plots.grouping import split_panels, take_evenly
from forethought.report.plots.layout import Key, create_panels, draw_seeds, set_percent
from forethought.report.plots.style import BLUE, GREEN, MUTED, PURPLE, VERMILLION
from forethought.report.sweep import Sweep

TITLE = "Attention from the decision"
CAPTION = (
    "Attention weight that the position which predicts the decision gives to tokens of the prompt, by layer: "
    "the head with the largest weight (solid) and the mean over heads (dashed), median over seeds; thin "
    "lines are seeds. On a path-star graph: the goal of the query, its predecessor in the edge between them, "
    "and the edge of the first hop."
)

_MOST_PANELS = 12
_LOOKS = ((BLUE, "o"), (VERMILLION, "s"), (GREEN, "^"), (PURPLE, "D"), (MUTED, "v"))


def draw(sweep: Sweep) -> Figure | str | None:
    runs = sweep.finished[sweep.finished["attention"].notna()]
    if runs.empty:
        return None
    panels = split_panels(sweep, runs)
    shown = take_evenly(panels, _MOST_PANELS)
    looks = dict(zip(dict.fromkeys(name for run in runs["attention"] for name in run), _LOOKS, strict=False))
    entries = [
        (name.replace("_", " "), {"color": colour, "marker": m}) for name, (colour, m) in looks.items()
    ]
    some = f"\n{len(shown)} of {len(panels)} settings; select others with --where"
    figure, grid = create_panels(
        [panel.title for panel in shown],
        "layer" + some * (len(shown) < len(panels)),
        "attention weight",
        key=Key([*entries, ("mean over heads", {"color": MUTED, "linestyle": (0, (2, 1.5))})]),
    )
    for panel, axes in zip(shown, grid, strict=True):
        for name, (colour, marker) in looks.items():
            _draw_landmark(axes, panel.runs, name, colour, marker)
    set_percent(grid[0])
    deepest = max(len(table) for run in runs["attention"] for table in run.values())
    grid[0].set_xticks(range(1, deepest + 1, 1 + deepest // 6))
    grid[0].set_xlim(0.7, deepest + 0.3)
    return figure


def _draw_landmark(axes: Any, runs: pd.DataFrame, name: str, colour: str, marker: str) -> None:
    tables = [np.array(run[name]) for run in runs["attention"] if name in run]
    draw_seeds(axes, ((range(1, 1 + len(table)), table[:, 1]) for table in tables), colour)
    if len({len(table) for table in tables}) == 1:
        mean, largest = np.median(tables, 0).T
        layers = range(1, 1 + len(mean))
        axes.plot(layers, mean, color=colour, linewidth=1.4, linestyle=(0, (2, 1.5)), zorder=3)
        axes.plot(layers, largest, color=colour, linewidth=2, marker=marker, markersize=4.5, zorder=4)
