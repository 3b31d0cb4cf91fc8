"""Published against measured: a row for each published cell with runs of ours."""

from typing import Any

from matplotlib.figure import Figure

from forethought.published import SOLVE_RATE
from forethought.report.plots.layout import Key, create_rows
from forethought.report.plots.style import GREEN, INK, MUTED, PURPLE, VERMILLION
from forethought.report.published import SMALL_SIBLING
from forethought.report.published_table import label_comparisons
from forethought.report.sweep import Sweep
from forethought.report.wording import is_share

TITLE = "Published against measured"
CAPTION = (
    "The diamond is the published value. Below it, each dot is one of our seeds (for solve rates: their "
    "share), the bar the 95 % interval in which the published value would lie if it came from runs like "
    "ours. A small sibling is another, smaller setting: only the order of its values counts."
)

_COLOURS = {"agrees": GREEN, "differs": VERMILLION, "cannot tell": MUTED, SMALL_SIBLING: PURPLE}
_MOST_ROWS = 20


def draw(sweep: Sweep) -> Figure | str | None:
    comparisons = [each for each in sweep.published.comparisons if is_share(each.metric)]
    if not comparisons:
        return None
    shown = comparisons[:_MOST_ROWS]
    words = [each.word or SMALL_SIBLING for each in shown]
    diamond: dict[str, Any] = {"marker": "D", "color": INK, "markerfacecolor": "white", "linestyle": ""}
    dot: dict[str, Any] = {"marker": "o", "markeredgecolor": "white", "markeredgewidth": 0.6, "linestyle": ""}
    key = Key(
        [("published", diamond)]
        + [(word, dot | {"color": colour}) for word, colour in _COLOURS.items() if word in words]
    )
    note = f"\nthe first {len(shown)} of {len(comparisons)}: published.csv has all"
    figure, axes, middles = create_rows(
        label_comparisons(shown),
        "published and measured" + note * (len(shown) < len(comparisons)),
        [0.36] * len(shown),
        key,
    )
    for each, word, middle in zip(shown, words, middles, strict=True):
        # The published value stands above ours, which it would cover.
        colour, below = _COLOURS[word], middle + 0.06
        if each.interval is not None:
            axes.plot(each.interval, [below] * 2, color=colour, linewidth=4.5, alpha=0.25, zorder=2)
        values = each.values
        if each.metric == SOLVE_RATE:
            values = (sum(values) / len(values),)
        for rank, value in enumerate(values):
            y = below + ((rank * 0.618 + 0.5) % 1 - 0.5) * 0.1  # evenly spread and reproducible
            axes.plot(value, y, color=colour, markersize=5.5, alpha=0.9, zorder=3, clip_on=False, **dot)
        axes.plot(each.cell.value, middle - 0.09, markersize=5, zorder=4, clip_on=False, **diamond)
    return figure
