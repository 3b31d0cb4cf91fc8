"""Accuracy against chance, with a mark for each run."""

from typing import Any

from matplotlib.figure import Figure

from forethought.report.groups import Sweep
from forethought.report.plots.panels import create_rows, draw_row_legend, draw_track, merge_to_rows
from forethought.report.plots.style import INK, VERDICTS

TITLE = "Accuracy against chance"
CAPTION = (
    "Each mark is one run: the share of answers that are right when the model reads its own tokens. The "
    "black bar is chance: the accuracy of the best policy that cannot plan. Colour and shape give the "
    "verdict."
)

_CHANCE = {"linestyle": "", "color": INK, "marker": "|", "markersize": 25, "markeredgewidth": 2}
_DOT = {"linestyle": "", "markersize": 7.5, "markeredgecolor": "white", "markeredgewidth": 0.7}


def draw(sweep: Sweep) -> Figure | None:
    groups, merged = merge_to_rows(sweep)
    groups = [group for group in groups if group.collect_values("test/accuracy")]
    if not groups:
        return None
    height, size = (1.1, 5.0) if merged else (0.6, 7.5)
    figure, axes, rows = create_rows(groups, "right answers" + merged, height=height, head=0.4)
    for group, top in rows:
        middle = top + 0.1 + height / 2
        draw_track(axes, middle)
        for chance in sorted(set(group.collect_values("test/chance"))):
            axes.plot(chance, middle, zorder=2, **_CHANCE)
        for rank, run in enumerate(group.finished):
            if "test/accuracy" in run.metrics:
                colour, marker = VERDICTS[run.verdict or "no verdict"]
                # Jitter by the golden ratio: evenly spread and reproducible.
                y = middle + ((rank * 0.618 + 0.5) % 1 - 0.5) * (height - 0.38)
                x = run.metrics["test/accuracy"]
                dot = _DOT | {"markersize": size}
                axes.plot(x, y, marker=marker, color=colour, alpha=0.9, zorder=3, clip_on=False, **dot)
    _draw_verdict_key(axes, {verdict for group, _ in rows for verdict in group.verdicts})
    return figure


def _draw_verdict_key(axes: Any, present: set[str]) -> None:
    handles = [axes.plot([], [], label="chance", **_CHANCE | {"markersize": 12})[0]]
    for verdict, (colour, marker) in VERDICTS.items():
        if verdict in present:
            handles += axes.plot([], [], marker=marker, color=colour, label=verdict, **_DOT)
    draw_row_legend(axes, handles, x=-0.03, ncols=5, handletextpad=0, columnspacing=0.6)
