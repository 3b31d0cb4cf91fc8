"""Accuracy by difficulty, for tasks that grade their rows (carry chains by length)."""

from statistics import median
from string import digits
from typing import Any

from matplotlib.figure import Figure

from forethought.report.groups import Group, Sweep, strip_prefix
from forethought.report.names import natural_sort_key
from forethought.report.plots.panels import create_group_panels
from forethought.report.plots.style import BLUE, set_percent_ticks

TITLE = "Accuracy by difficulty"
CAPTION = (
    "Accuracy on subsets of the test rows, hardest to the right. Thin lines are seeds, the thick line is "
    "their median. The model looks ahead as far as the line stays high."
)

_PREFIX = "test/accuracy_"


def draw(sweep: Sweep) -> Figure | None:
    groups = [group for group in sweep.groups if _list_strata(group)]
    if not groups:
        return None
    names = sorted({name for group in groups for name in _list_strata(group)}, key=natural_sort_key)
    xlabel, ticks = _split_stem(names)
    figure, panels = create_group_panels(groups, xlabel)
    for group, axes in panels:
        for run in group.finished:
            line = strip_prefix(run.metrics, _PREFIX)
            _draw_line(axes, names, line, linewidth=0.8, alpha=0.45)
        medians = {name: median(group.collect_values(_PREFIX + name)) for name in _list_strata(group)}
        _draw_line(axes, names, medians, linewidth=2.4, marker="o", markersize=5.5)
        axes.set_ylim(-0.04, 1.06)
        set_percent_ticks(axes.yaxis)
        axes.set_xticks(range(len(names)), labels=ticks)
    return figure


def _draw_line(axes: Any, names: list[str], line: dict[str, float], **style: Any) -> None:
    present = [number for number, name in enumerate(names) if name in line]
    axes.plot(present, [line[names[number]] for number in present], color=BLUE, **style)


def _list_strata(group: Group) -> list[str]:
    return list(dict.fromkeys(name for run in group.finished for name in strip_prefix(run.metrics, _PREFIX)))


def _split_stem(names: list[str]) -> tuple[str, list[str]]:
    """Return axis label and tick labels: `carry` and `0, 1, …` for `carry_0, carry_1, …`."""
    stems = {name.rstrip(digits) for name in names}
    if len(stems) == 1 and all(name[-1:].isdigit() for name in names):
        stem = stems.pop()
        return stem.strip("_").replace("_", " "), [name.removeprefix(stem) for name in names]
    return "kind of row", [name.replace("_", " ") for name in names]
