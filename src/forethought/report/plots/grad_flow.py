"""Gradient flow from the loss of each answer token to all positions, as a map for each group."""

from typing import Any

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from forethought.report.groups import Group, Sweep
from forethought.report.plots.panels import describe_omission, take_evenly
from forethought.report.plots.style import BAND, INK, MUTED, WIDTH
from forethought.report.wording import truncate

TITLE = "Gradient flow from each answer token"
CAPTION = (
    "Norm of the gradient of each answer token's loss (row) with respect to the hidden state at each "
    "position of the prompt and the answer (column), teacher-forced. Each row is a share of its largest "
    "value, median over seeds. The last coloured field of a row is the position that predicts the token; "
    "fields to its left are earlier positions. Under myopic training, no gradient reaches earlier positions: "
    "they are grey."
)

_MOST_MAPS = 12
_LEAST = 1e-2  # share of the largest value in the row at which the colour scale ends


def draw(sweep: Sweep) -> Figure | None:
    maps = [(group, flow) for group in sweep.groups if (flow := _median_flow(group)) is not None]
    # Put the negative control (myopic) next to its counterpart: the difference is the result.
    maps.sort(key=lambda pair: pair[0].objective not in ("next_token", "myopic"))
    if not maps:
        return None
    shown = take_evenly(maps, _MOST_MAPS)
    heights = [0.55 + 0.17 * len(flow) for _, flow in shown]
    engine = ConstrainedLayoutEngine(hspace=0.08)
    figure = Figure(figsize=(WIDTH, sum(heights) + 0.9), layout=engine)
    panels = figure.subplots(len(shown), 1, squeeze=False, height_ratios=heights)[:, 0]
    for (group, flow), axes in zip(shown, panels, strict=True):
        image = _draw_map(axes, group, flow)
    scale = figure.colorbar(
        image,
        ax=list(panels),
        location="bottom",
        shrink=0.5,
        aspect=40,
        label="share of the largest value in the row",
    )
    scale.outline.set_visible(False)
    scale.ax.minorticks_off()
    scale.set_ticks([0.01, 0.1, 1], labels=["1 %", "10 %", "100 %"])
    if len(maps) > len(shown):
        figure.suptitle(describe_omission(len(maps), len(shown)).strip(), fontsize=8.5, color=MUTED)
    return figure


def _median_flow(group: Group) -> Any:
    """Return a map (A, T), each row divided by its largest value. None without a map or if sizes differ."""
    flows = [np.array(run.grad_flow) for run in group.finished if run.grad_flow]
    if not flows or len({flow.shape for flow in flows}) > 1:
        return None
    largest = [flow.max(1, keepdims=True) for flow in flows]
    return np.median(
        [flow / np.where(peak > 0, peak, 1) for flow, peak in zip(flows, largest, strict=True)], axis=0
    )


def _draw_map(axes: Any, group: Group, flow: Any) -> Any:
    answer, length = flow.shape
    prompt = length - answer + 1
    norm = LogNorm(_LEAST, 1, clip=True)
    image = axes.imshow(np.ma.masked_equal(flow, 0), cmap="Blues", norm=norm, aspect="auto")
    axes.set_facecolor(BAND)
    axes.axvline(prompt - 0.5, color=INK, linewidth=0.8)
    axes.set_title(truncate(group.label, 56), fontsize=10)
    axes.set_yticks(range(answer), labels=range(1, answer + 1), fontsize=8)
    axes.set_ylabel("loss of token", fontsize=8.5)
    middle = [(prompt - 1) / 2, prompt + (answer - 2) / 2]
    axes.set_xticks(middle[: 1 + (answer > 1)], labels=["prompt", "answer"][: 1 + (answer > 1)], fontsize=8.5)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return image
