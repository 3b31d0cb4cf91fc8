"""Accuracy of linear probes on the states of the prompt, as a map for each setting."""

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from forethought.report.plots.grouping import split_panels, take_evenly
from forethought.report.plots.layout import create_panels, draw_colour_bar, format_percent
from forethought.report.plots.style import BAND
from forethought.report.sweep import Sweep

TITLE = "Answer tokens that probes read from the prompt"
CAPTION = (
    "Test accuracy of a linear probe for each answer token (row) on the hidden state at each position of the "
    "prompt (column), median over seeds. The model is frozen. The last column is what the state knows before "
    "the first answer token is written."
)

_MOST_MAPS = 8
_NORM = Normalize(0, 1)
_COLOURS = colormaps["Blues"]


def draw(sweep: Sweep) -> Figure | str | None:
    runs = sweep.finished[sweep.finished["probes"].notna()]
    if runs.empty:
        return None
    maps = []
    for panel in split_panels(sweep, runs):
        tables = [np.array(table, dtype=float).T for table in panel.runs["probes"]]
        if len({table.shape for table in tables}) == 1:
            maps.append((panel.title, np.median(tables, 0)))
    # Maps of the same size can be compared position by position.
    shown = take_evenly([pair for pair in maps if pair[1].shape == maps[0][1].shape], _MOST_MAPS)
    if not shown:
        return "the runs of a setting differ in their positions"
    some = f"\n{len(shown)} of {len(maps)} settings; select others with --where"
    answer, length = shown[0][1].shape
    figure, grid = create_panels(
        [title for title, _ in shown],
        "position in the prompt" + some * (len(shown) < len(maps)),
        "answer token",
        height=max(0.8, min(1.4, 0.14 * answer)),
        head=0.5,
        columns=1 if length > 60 or len(shown) == 1 else 2,
    )
    for (_, table), axes in zip(shown, grid, strict=True):
        axes.imshow(np.ma.masked_invalid(table), cmap=_COLOURS, norm=_NORM, aspect="auto")
        axes.set_facecolor(BAND)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
    grid[0].set_yticks(range(0, answer, 1 + answer // 8), labels=range(1, answer + 1, 1 + answer // 8))
    step = 1 + length // 8
    places = range(length - 1, -1, -step)
    grid[0].set_xticks(places, labels=[place + 1 for place in places])
    draw_colour_bar(figure, "Accuracy of the probe", _NORM, _COLOURS, [0, 0.5, 1], format_percent)
    return figure
