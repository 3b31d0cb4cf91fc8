"""Origin of the gradient at the decision, by layer, for each setting."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from forethought.report.objectives import BASELINE
from forethought.report.plots.grouping import split_panels, take_evenly
from forethought.report.plots.layout import Key, create_panels, draw_seeds
from forethought.report.plots.style import BLUE, MUTED, VERMILLION
from forethought.report.sweep import Sweep

TITLE = "Origin of the gradient at the decision"
CAPTION = (
    "The gradient of the next-token loss by the weights up to a layer has three parts. Direct and pre-cached "
    "pass through the state that predicts the decision: direct from the decision's own loss, pre-cached from "
    "the losses of later tokens. Shared passes through other positions. Norm of each part as a share of the "
    "sum of the three norms, median over seeds; thin lines are seeds. A part of zero has no line: "
    "nothing is pre-cached at the last layer, and under myopic training."
)

_MOST_PANELS = 12
_PARTS = {"direct": (VERMILLION, "o"), "pre-cached": (BLUE, "s"), "shared": (MUTED, "^")}


def draw(sweep: Sweep) -> Figure | str | None:
    runs = sweep.finished[sweep.finished["gradient_split"].notna()]
    drawn = [
        (panel, shares)
        for panel in split_panels(sweep, runs)
        if (shares := _take_shares(panel.runs)) is not None
    ]
    if not drawn:
        return None
    # The negative control (myopic) stands next to its counterpart, as in the map of gradients.
    drawn.sort(key=lambda pair: pair[0].runs["objective"].iloc[0] not in (BASELINE, "myopic"))
    shown = take_evenly(drawn, _MOST_PANELS)
    some = f"\n{len(shown)} of {len(drawn)} settings; select others with --where"
    figure, grid = create_panels(
        [panel.title for panel, _ in shown],
        "layer, from the embedding (0)" + some * (len(shown) < len(drawn)),
        "share of the norms",
        key=Key((name, {"color": colour, "marker": marker}) for name, (colour, marker) in _PARTS.items()),
    )
    for (_, shares), axes in zip(shown, grid, strict=True):
        layers = range(shares.shape[1])
        for part, (colour, marker) in enumerate(_PARTS.values()):
            draw_seeds(axes, ((layers, seed[:, part]) for seed in shares), colour)
            middle = np.median(shares[:, :, part], 0)
            axes.plot(layers, middle, color=colour, linewidth=2, marker=marker, markersize=4.5, zorder=4)
    # Pre-cached parts of 1 % and of 0.1 % must differ from one that is zero.
    grid[0].set(yscale="log", ylim=(1e-3, 1.5))
    grid[0].set_yticks([1e-3, 1e-2, 0.1, 1], labels=["0.1", "1", "10", "100 %"])
    grid[0].minorticks_off()
    deepest = max(shares.shape[1] for _, shares in shown) - 1
    grid[0].set_xticks(range(0, deepest + 1, 1 + deepest // 6))
    grid[0].set_xlim(-0.3, deepest + 0.3)
    return figure


def _take_shares(runs: pd.DataFrame) -> Any:
    """Return shares (run, layer, part). None if the runs differ in their layers."""
    norms = [np.array(split)[:, :3] for split in runs["gradient_split"]]
    if len({table.shape for table in norms}) > 1:
        return None
    return np.stack([table / np.maximum(table.sum(1, keepdims=True), 1e-30) for table in norms])
