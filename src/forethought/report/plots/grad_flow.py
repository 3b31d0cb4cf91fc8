"""How far back the loss of each answer token reaches, as a map for each group."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from forethought.report.groups import Group, Sweep
from forethought.report.plots.panels import cut, evenly
from forethought.report.plots.style import BAND, INK, MUTED, WIDTH
from forethought.report.wording import shorten

TITLE = "How far back a token's loss reaches"
CAPTION = (
    "Norm of the gradient of each answer token's loss (row) by the hidden state at each position of the "
    "prompt and the answer (column), the model reading the true answer; each row as a share of its largest, "
    "median over seeds. Left of a row's end is what the token asks of earlier positions; under myopic "
    "training nothing reaches there, and the fields are grey."
)

_MOST_MAPS = 12
_LEAST = 1e-2  # of a row's largest; below it the colours end


def draw(sweep: Sweep) -> Figure | None:
    maps = [(group, found) for group in sweep.groups if (found := _median(group)) is not None]
    # Beside the negative control its counterpart is what there is to see, so these come first.
    maps.sort(key=lambda pair: _name(pair[0]) not in ("next_token", "myopic"))
    if not maps:
        return None
    shown = evenly(maps, _MOST_MAPS)
    heights = [0.55 + 0.17 * len(flow) for _, flow in shown]
    engine = ConstrainedLayoutEngine(hspace=0.08)
    figure = Figure(figsize=(WIDTH, sum(heights) + 0.9), layout=engine)
    panels = figure.subplots(len(shown), 1, squeeze=False, height_ratios=heights)[:, 0]
    for (group, flow), axes in zip(shown, panels, strict=True):
        image = _map(axes, group, flow)
    scale = figure.colorbar(
        image, ax=list(panels), location="bottom", shrink=0.5, aspect=40, label="share of the row's largest"
    )
    scale.outline.set_visible(False)
    scale.ax.minorticks_off()
    scale.set_ticks([0.01, 0.1, 1], labels=["1 %", "10 %", "100 %"])
    if len(maps) > len(shown):
        figure.suptitle(cut(len(maps), len(shown)).strip(), fontsize=8.5, color=MUTED)
    return figure


def _name(group: Group) -> str:
    return group.runs[0].choices.get("objective", "")


def _median(group: Group) -> Any:
    """(A, T), each row divided by its largest; None without a map, or with maps of several sizes."""
    flows = [np.array(run.grad_flow) for run in group.finished if run.grad_flow]
    if not flows or len({flow.shape for flow in flows}) > 1:
        return None
    largest = [flow.max(1, keepdims=True) for flow in flows]
    return np.median(
        [flow / np.where(top > 0, top, 1) for flow, top in zip(flows, largest, strict=True)], axis=0
    )


def _map(axes: Any, group: Group, flow: Any) -> Any:
    answer, length = flow.shape
    prompt = length - answer + 1
    norm = LogNorm(_LEAST, 1, clip=True)
    image = axes.imshow(np.ma.masked_equal(flow, 0), cmap="Blues", norm=norm, aspect="auto")
    axes.set_facecolor(BAND)
    axes.axvline(prompt - 0.5, color=INK, linewidth=0.8)
    axes.set_title(shorten(group.label, 56), fontsize=10)
    axes.set_yticks(range(answer), labels=range(1, answer + 1), fontsize=8)
    axes.set_ylabel("loss of token", fontsize=8.5)
    middle = [(prompt - 1) / 2, prompt + (answer - 2) / 2]
    axes.set_xticks(middle[: 1 + (answer > 1)], labels=["prompt", "answer"][: 1 + (answer > 1)], fontsize=8.5)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return image
