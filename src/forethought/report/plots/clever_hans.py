"""Accuracy at each answer position, free-running and teacher-forced: the Clever Hans picture."""

from collections.abc import Sequence
from statistics import median
from typing import Any

from matplotlib.figure import Figure

from forethought.report.groups import Group, Sweep, strip_prefix
from forethought.report.plots.panels import create_group_panels, draw_chance, draw_colour_key
from forethought.report.plots.style import BAND, FORCED, FREE, HALO, INK, MUTED, set_percent_ticks
from forethought.report.wording import format_odds, format_share
from forethought.results import Results

TITLE = "Accuracy by answer position"
CAPTION = (
    "Accuracy at each position of the answer. A high orange line over a low blue line means that the model "
    "looks up the next token from the true previous tokens and has no plan of its own. Thin lines are seeds, "
    "thick lines their median; the dashed line is chance. Objectives that do not read the answer have no "
    "orange line."
)

_Line = list[float]


def draw(sweep: Sweep) -> Figure | None:
    groups = [group for group in sweep.groups if any(_line(run, "token") for run in group.finished)]
    if not groups:
        return None
    figure, panels = create_group_panels(groups, "position in the answer", height=2.1, head=0.5)
    draw_colour_key(
        figure,
        [
            ("teacher-forced: reads the true previous tokens", FORCED),
            ("free-running: reads its own tokens", FREE),
        ],
    )
    longest = max(len(_line(run, "token")) for group in groups for run in group.finished)
    clearest = max((group for group, _ in panels), key=_shortcut_rate)
    for group, axes in panels:
        free = [line for run in group.finished if (line := _line(run, "token"))]
        forced = [line for run in group.finished if (line := _line(run, "forced_token"))]
        _draw_seeds(axes, free, FREE, 3.6, "o")
        _draw_seeds(axes, forced, FORCED, 1.8, "s")
        axes.set_xlim(0.5, longest + 0.5)
        axes.set_xticks(range(1, longest + 1, 1 + longest // 10))
        decision = next(iter(group.finished[0].decision_positions), None)
        _mark_decision(axes, group, decision)
        if group is clearest and decision and forced and _shortcut_rate(group):
            _annotate_shortcut(axes, group, _median_line(forced)[decision:], 8.5 if len(panels) <= 8 else 7.0)
        axes.set_ylim(-0.06, 1.24)
        set_percent_ticks(axes.yaxis)
    return figure


def _line(run: Results, kind: str) -> _Line:
    by_position = strip_prefix(run.metrics, f"test/{kind}_accuracy_")
    return [by_position[position] for position in sorted(filter(str.isdigit, by_position), key=int)]


def _median_line(lines: Sequence[_Line]) -> _Line:
    return [median(column) for column in zip(*lines, strict=False)]


def _draw_seeds(axes: Any, lines: Sequence[_Line], colour: str, width: float, marker: str) -> None:
    for line in lines:
        axes.plot(range(1, len(line) + 1), line, color=colour, linewidth=0.8, alpha=0.45, zorder=2)
    if lines:
        middle = _median_line(lines)
        positions = range(1, len(middle) + 1)
        size = 4 + 0.7 * width
        axes.plot(positions, middle, color=colour, linewidth=width, marker=marker, markersize=size, zorder=3)


def _mark_decision(axes: Any, group: Group, position: int | None) -> None:
    """Mark the decision position and its chance level."""
    if position is None:
        return
    axes.axvspan(position - 0.4, position + 0.4, color=BAND, zorder=0, linewidth=0)
    words = {"ha": "center", "va": "bottom", "color": MUTED, "fontsize": 8, "path_effects": HALO}
    axes.text(position, -0.02, "decision", zorder=4, **words)
    if group.decision_chance is not None:
        draw_chance(axes, group.decision_chance)


def _shortcut_rate(group: Group) -> float:
    return group.verdicts["shortcut"] / max(1, len(group.finished))


def _annotate_shortcut(axes: Any, group: Group, later: _Line, size: float) -> None:
    """Write the accuracies into one panel: teacher-forced after the decision, and chance at the decision."""
    chance, end = group.decision_chance, axes.get_xlim()[1]
    if chance is None or not later:
        return
    forced = f"teacher-forced: {format_share(median(later))} %"
    decision = f"decision: chance is {format_odds(chance)}"
    axes.text(end, 1.08, forced, color=FORCED, fontsize=size, ha="right", va="bottom")
    axes.text(end, chance - 0.07, decision, color=INK, fontsize=size, ha="right", va="top")
