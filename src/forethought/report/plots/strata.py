"""Accuracy by difficulty, for tasks that grade their rows (carry chains by length)."""

from string import digits

from matplotlib.figure import Figure

from forethought.report.plots.grouping import arrange_lines, strip_prefix
from forethought.report.plots.layout import draw_seeds, set_percent
from forethought.report.sweep import Sweep
from forethought.results.frame import natural_sort_key

TITLE = "Accuracy by difficulty"
CAPTION = (
    "Accuracy on subsets of the test rows, hardest to the right. Thin lines are seeds, thick lines their "
    "median. The model looks ahead as far as the line stays high."
)

_PREFIX = "test/accuracy_"


def draw(sweep: Sweep) -> Figure | None:
    strata = strip_prefix(sweep.finished, _PREFIX)
    if not len(strata.columns):
        return None
    names = sorted(strata.columns, key=natural_sort_key)
    strata = strata[names].dropna(how="all")
    xlabel, ticks = _split_stem(names)
    layout = arrange_lines(sweep, sweep.finished.loc[strata.index])
    figure, panels = layout.create(
        xlabel, "right answers", foot=0.06 + 0.14 * (1 + max(t.count("\n") for t in ticks))
    )
    first = panels[0][1]
    set_percent(first)
    first.set_xticks(range(len(names)), labels=ticks)
    for lines, axes in panels:
        for _, look, runs in lines:
            table = strata.loc[runs.index].set_axis(range(len(names)), axis=1)
            draw_seeds(axes, ((seed.index, seed) for _, seed in table.iterrows()), look.color)
            axes.plot(table.columns, table.median(), **look._asdict(), linewidth=1.8, markersize=5, zorder=3)
    return figure


def _split_stem(names: list[str]) -> tuple[str, list[str]]:
    """Return axis label and tick labels: `carry` and `0, 1, …` for `carry_0, carry_1, …`."""
    stems = {name.rstrip(digits) for name in names}
    if len(stems) == 1 and all(name[-1:].isdigit() for name in names):
        stem = stems.pop()
        return stem.strip("_").replace("_", " "), [name.removeprefix(stem) for name in names]
    return "kind of row", [name.replace("_", "\n") for name in names]
