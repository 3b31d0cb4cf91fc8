"""Gradient flow from the loss of each answer token to all positions, as a map for each setting."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from forethought.report.objectives import BASELINE
from forethought.report.plots.grouping import split_panels, take_evenly
from forethought.report.plots.layout import create_panels, draw_colour_bar, format_percent
from forethought.report.plots.style import BAND, INK
from forethought.report.sweep import Sweep

TITLE = "Gradient flow from each answer token"
CAPTION = (
    "Norm of the gradient of each answer token's loss (row) with respect to the hidden state at each "
    "position of the prompt and the answer (column), teacher-forced. Each row is a share of its largest "
    "value, median over seeds. The last coloured field of a row is the position that predicts the token; "
    "fields to its left are earlier positions. Under myopic training, no gradient reaches earlier positions: "
    "they are grey."
)

_MOST_MAPS = 8
_NORM = LogNorm(1e-2, 1, clip=True)  # of the largest value in the row
_COLOURS = colormaps["Blues"]


def draw(sweep: Sweep) -> Figure | str | None:
    runs = sweep.finished[sweep.finished["grad_flow"].notna()]
    maps = [
        (panel, flow) for panel in split_panels(sweep, runs) if (flow := _take_median(panel.runs)) is not None
    ]
    if not maps:
        return None
    # Put the negative control (myopic) next to its counterpart: the difference is the result.
    maps.sort(key=lambda pair: pair[0].runs["objective"].iloc[0] not in (BASELINE, "myopic"))
    # Maps of the same size can be compared position by position.
    shown = take_evenly([pair for pair in maps if pair[1].shape == maps[0][1].shape], _MOST_MAPS)
    note = (
        f"\n{len(shown)} of {len(maps)} settings; select others with --where"
        if len(shown) < len(maps)
        else ""
    )
    answer, length = maps[0][1].shape
    figure, grid = create_panels(
        [panel.title for panel, _ in shown],
        "position of the hidden state" + note,
        "answer token",
        height=max(0.8, min(1.4, 0.14 * answer)),
        head=0.5,
        columns=1 if length > 60 or len(shown) == 1 else 2,
    )
    for (_, flow), axes in zip(shown, grid, strict=True):
        axes.imshow(np.ma.masked_equal(flow, 0), cmap=_COLOURS, norm=_NORM, aspect="auto")
        axes.axvline(length - answer + 0.5, color=INK, linewidth=0.8)
        axes.set_facecolor(BAND)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
    grid[0].set(xlim=(-0.5, length - 0.5), ylim=(answer - 0.5, -0.5))
    grid[0].set_yticks(range(0, answer, 1 + answer // 8), labels=range(1, answer + 1, 1 + answer // 8))
    prompt = length - answer + 1
    grid[0].set_xticks(
        [(prompt - 1) / 2, prompt + (answer - 2) / 2][: 1 + (answer > 1)],
        labels=["prompt", "answer"][: 1 + (answer > 1)],
    )
    draw_colour_bar(
        figure, "Share of the largest value in the row", _NORM, _COLOURS, [0.01, 0.1, 1], format_percent
    )
    return figure


def _take_median(runs: pd.DataFrame) -> Any:
    """Return a map (A, T), each row divided by its largest value. None if the runs differ in size."""
    flows = [np.array(flow) for flow in runs["grad_flow"]]
    if len({flow.shape for flow in flows}) > 1:
        return None
    peaks = [flow.max(1, keepdims=True) for flow in flows]
    return np.median(
        [flow / np.where(peak > 0, peak, 1) for flow, peak in zip(flows, peaks, strict=True)], axis=0
    )
