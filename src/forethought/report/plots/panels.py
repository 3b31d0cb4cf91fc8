"""Figure layouts for many groups: small multiples, a matrix of panels, or a row for each group."""

from collections.abc import Callable, Sequence
from math import ceil
from textwrap import wrap
from typing import Any, TypeVar

from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from forethought.report.groups import Group, Sweep
from forethought.report.names import shorten_name
from forethought.report.plots.style import LINES, MUTED, PALE, WIDTH
from forethought.report.wording import format_value, truncate

_T = TypeVar("_T")

MOST_PANELS = 24
_MOST_ROWS = 40
_MOST_MATRIX_PANELS = 7  # along each side


def take_evenly(items: Sequence[_T], most: int) -> list[_T]:
    """Return at most `most` items, evenly spaced, including the first and the last."""
    if len(items) <= most:
        return list(items)
    return [items[round(number * (len(items) - 1) / (most - 1))] for number in range(most)]


def describe_omission(total: int, shown: int) -> str:
    """Return a note for an axis label if some settings are not shown."""
    omission = f"\n({shown} of {total} settings, evenly spaced; select others with --where)"
    return "" if total == shown else omission


def create_grid(rows: int, columns: int, total: float, head: float, **spacing: Any) -> tuple[Figure, Any]:
    """Create a figure of `total` inches, with panels that share axes below `head` inches of free space."""
    engine = ConstrainedLayoutEngine(rect=(0, 0, 1, 1 - head / total), **spacing)
    figure = Figure(figsize=(WIDTH, total), layout=engine)
    return figure, figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)


def create_panels(
    titles: Sequence[tuple[str, str]], xlabel: str, height: float, head: float
) -> tuple[Figure, list[Any]]:
    """Create a panel for each title and second line, with shared axes, below `head` inches of free space."""
    columns = min(len(titles), 2 if len(titles) <= 8 else 3)
    rows = ceil(len(titles) / columns)
    total = rows * height * (1.45 if columns == 1 else 1) + 0.4 + head
    figure, axes_grid = create_grid(rows, columns, total, head, hspace=0.06, wspace=0.04)
    grid = list(axes_grid.flat)
    for spare in grid[len(titles) :]:
        spare.set_visible(False)
    # Sharing hides the tick labels of panels above a gap in the last row: show them again.
    for axes in grid[len(titles) - columns : len(titles)]:
        axes.xaxis.set_tick_params(labelbottom=True)
    size, length = ((10, 56), (10, 26), (7.5, 22))[columns - 1]
    for (title, second), axes in zip(titles, grid, strict=False):
        axes.set_title(_wrap_title(title, length) + "\n" * bool(second), fontsize=size)
        axes.text(0, 1.04, second, transform=axes.transAxes, color=MUTED, fontsize=size - 1.5)
    figure.supxlabel(xlabel, fontsize=10, color=MUTED)
    return figure, grid[: len(titles)]


def create_group_panels(
    groups: Sequence[Group], xlabel: str, height: float = 1.9, head: float = 0.0
) -> tuple[Figure, list[tuple[Group, Any]]]:
    """Create a panel for each group, with shared axes, below `head` inches of free space."""
    shown = take_evenly(groups, MOST_PANELS)
    titles = [
        (group.label, f"{group.solved_ratio} solved" if group.finished else "none finished")
        for group in shown
    ]
    figure, grid = create_panels(titles, xlabel + describe_omission(len(groups), len(shown)), height, head)
    return figure, list(zip(shown, grid, strict=True))


def create_panel_matrix(
    sweep: Sweep, up: str | None, across: str, xlabel: str, head: float
) -> tuple[Figure, list[tuple[list[Group], Any]]]:
    """Create a panel for each pair of values of two parameters. Return each with a group for each colour.

    Groups that differ only in other parameters are merged.
    """
    hue = sweep.axes.hue
    rows = take_evenly(sweep.levels(up), _MOST_MATRIX_PANELS)[::-1] if up else [None]
    columns = take_evenly(sweep.levels(across), _MOST_MATRIX_PANELS)
    fields: dict[tuple[str, str], list[Group]] = {}
    for group in sweep.merge_groups(up, across, hue):
        levels = group.format_level(up), group.format_level(across)
        fields.setdefault(levels, []).append(group)
    merged_keys = [key for key in sweep.keys if key not in (up, across, hue)]
    total = len(rows) * 0.95 + 0.6 + head
    figure, grid = create_grid(len(rows), len(columns), total, head, hspace=0.04, wspace=0.03)
    for axes, level in zip(grid[0], columns, strict=True):
        axes.set_title(f"{shorten_name(across)}={format_value(level)}", fontsize=8, loc="center")
    for axes, level in zip(grid[:, 0], rows if up else (), strict=False):
        axes.set_ylabel(f"{shorten_name(up or '')}={format_value(level)}", fontsize=8)
    for axes in grid.flat:
        axes.tick_params(labelsize=7.5)
    merged = f"\n(merged over {', '.join(merged_keys)})" if merged_keys else ""
    figure.supxlabel(xlabel + merged, fontsize=10, color=MUTED)
    return figure, [
        (fields.get((format_value(row if up else None), format_value(column)), []), axes)
        for row, line in zip(rows, grid, strict=True)
        for column, axes in zip(columns, line, strict=True)
    ]


def merge_to_rows(sweep: Sweep) -> tuple[list[Group], str]:
    """Return the groups, merged by the parameter of the colours if there are too many for a row each.

    The second value is a note for an axis label.
    """
    if len(sweep.groups) <= _MOST_ROWS:
        return sweep.groups, ""
    return sweep.merge_groups(sweep.axes.hue), f"\n(merged over {len(sweep.groups)} settings)"


def create_rows(
    groups: Sequence[Group], xlabel: str, height: float | Callable[[Group], float], head: float = 0.0
) -> tuple[Figure, Any, list[tuple[Group, float]]]:
    """Create a row for each group, with its name above it and shares from 0 to 1 to the right.

    Return the figure, its axes, and for each group the y of the upper end of its row. The unit of the
    vertical axis is an inch.
    """
    shown = take_evenly(groups, _MOST_ROWS)
    heights = [height(group) if callable(height) else height for group in shown]
    xlabel += describe_omission(len(groups), len(shown))
    body, foot = sum(heights), 0.75 if "\n" in xlabel else 0.55
    total = body + head + foot
    figure = Figure(figsize=(WIDTH, total))
    axes = figure.add_axes((0.03, foot / total, 0.83, body / total))
    axes.set(xlim=(-0.02, 1.02), ylim=(body, 0), xlabel=xlabel)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], labels=["0", "25", "50", "75", "100 %"])
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    rows, y = [], 0.0
    for group, size in zip(shown, heights, strict=True):
        rows.append((group, y))
        axes.text(0, y + 0.13, truncate(group.label, 54), fontsize=10, va="center")
        y += size
    return figure, axes, rows


def draw_track(axes: Any, y: float) -> None:
    """Draw the base line of a row from 0 to 1, with a tick at each quarter."""
    axes.plot([0, 1], [y, y], color=PALE, linewidth=1, zorder=1)
    axes.plot([0, 0.25, 0.5, 0.75, 1], [y] * 5, "|", color=PALE, markersize=5, zorder=1)


def draw_row_legend(axes: Any, handles: Sequence[Any], x: float, **layout: float) -> None:
    """Draw a legend above the rows."""
    axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(x, 1), borderaxespad=0.2, **layout)


def draw_colour_key(figure: Figure, lines: Sequence[tuple[str, str]]) -> None:
    """Write the meaning of each colour at the top of the figure, in that colour."""
    for number, (text, colour) in enumerate(lines):
        y = 1 - (0.05 + 0.21 * number) / figure.get_figheight()
        figure.text(0.015, y, text, color=colour, va="top", fontsize=10)


def draw_chance(axes: Any, chance: float) -> None:
    axes.axhline(chance, color=MUTED, linewidth=0.9, linestyle=(0, (3, 3)), zorder=1)


def legend_height(names: Sequence[str]) -> float:
    """Return the height of `draw_legend` in inches."""
    return 0.1 + 0.22 * ((len(names) + 1) // 2)


def draw_legend(figure: Figure, names: Sequence[str], marked: bool = True) -> None:
    """Draw the names with the colours and markers of `LINES`, in two columns at the top of the figure."""
    handles = [
        Line2D(
            [], [], color=colour, marker=marker if marked else "", markersize=5.5, label=truncate(name, 28)
        )
        for name, (colour, marker) in zip(names, LINES, strict=False)
    ]
    figure.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(0, 1), ncols=2, labelspacing=0.3, borderaxespad=0.2
    )


def _wrap_title(text: str, width: int) -> str:
    lines = wrap(text, width, break_on_hyphens=False)
    return "\n".join(lines[:1] + [truncate(" ".join(lines[1:]), width)] * (len(lines) > 1))
