"""Layouts for one figure about many groups: small multiples, or one row each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil
from textwrap import wrap
from typing import Any, TypeVar

from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from forethought.report.groups import Group, Sweep
from forethought.report.names import short
from forethought.report.plots.style import MUTED, PALE, WIDTH
from forethought.report.wording import shorten, value

T = TypeVar("T")

MOST_PANELS, MOST_ROWS = 24, 40
MOST_FIELDS = 7  # along a side of a matrix of panels
LEGEND_ROW = 0.22  # inches


def evenly(items: Sequence[T], most: int) -> list[T]:
    """At most so many of them, evenly spaced, the first and the last included."""
    if len(items) <= most:
        return list(items)
    return [items[round(number * (len(items) - 1) / (most - 1))] for number in range(most)]


def cut(there: int, shown: int) -> str:
    """Say in an axis label that some were left out."""
    return "" if there == shown else f"\n({shown} of {there} settings, evenly spaced; --where shows others)"


def panels(
    titles: Sequence[tuple[str, str]], xlabel: str, height: float, head: float
) -> tuple[Figure, list[Any]]:
    """A panel for each title and its smaller second line, with common axes, below `head` free inches."""
    columns = min(len(titles), 2 if len(titles) <= 8 else 3)
    rows = ceil(len(titles) / columns)
    total = rows * height * (1.45 if columns == 1 else 1) + 0.4 + head
    engine = ConstrainedLayoutEngine(rect=(0, 0, 1, 1 - head / total), hspace=0.06, wspace=0.04)
    figure = Figure(figsize=(WIDTH, total), layout=engine)
    grid = list(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat)
    for spare in grid[len(titles) :]:
        spare.set_visible(False)
    # An axis above a gap in the last row has lost its tick labels to sharing.
    for axes in grid[len(titles) - columns : len(titles)]:
        axes.xaxis.set_tick_params(labelbottom=True)
    size, length = ((10, 56), (10, 26), (7.5, 22))[columns - 1]
    for (title, second), axes in zip(titles, grid, strict=False):
        axes.set_title(_two_lines(title, length) + "\n" * bool(second), fontsize=size)
        axes.text(0, 1.04, second, transform=axes.transAxes, color=MUTED, fontsize=size - 1.5)
    figure.supxlabel(xlabel, fontsize=10, color=MUTED)
    return figure, grid[: len(titles)]


def small_multiples(
    groups: Sequence[Group], xlabel: str, height: float = 1.9, head: float = 0.0
) -> tuple[Figure, list[tuple[Group, Any]]]:
    """A panel for each group, all with the same axes; `head` inches are left free above them."""
    shown = evenly(groups, MOST_PANELS)
    titles = [
        (
            group.label,
            f"{len(group.solved)} of {len(group.finished)} solved" if group.finished else "none finished",
        )
        for group in shown
    ]
    figure, grid = panels(titles, xlabel + cut(len(groups), len(shown)), height, head)
    return figure, list(zip(shown, grid, strict=True))


def matrix(
    sweep: Sweep, up: str | None, across: str, xlabel: str, head: float
) -> tuple[Figure, list[tuple[list[Group], Any]]]:
    """A small panel for each field of a plane of two parameters, with its groups: one for each colour.

    All values of every other parameter are merged.
    """
    hue = sweep.axes.hue
    rows = evenly(sweep.levels(up), MOST_FIELDS)[::-1] if up else [None]
    columns = evenly(sweep.levels(across), MOST_FIELDS)
    fields: dict[tuple[str, str], list[Group]] = {}
    for group in sweep.merged(up, across, hue):
        at = value(group.settings.get(up) if up else None), value(group.settings.get(across))
        fields.setdefault(at, []).append(group)
    others = [key for key in sweep.keys if key not in (up, across, hue)]
    total = len(rows) * 0.95 + 0.6 + head
    engine = ConstrainedLayoutEngine(rect=(0, 0, 1, 1 - head / total), hspace=0.04, wspace=0.03)
    figure = Figure(figsize=(WIDTH, total), layout=engine)
    grid = figure.subplots(len(rows), len(columns), sharex=True, sharey=True, squeeze=False)
    for axes, level in zip(grid[0], columns, strict=True):
        axes.set_title(f"{short(across)}={value(level)}", fontsize=8, loc="center")
    for axes, level in zip(grid[:, 0], rows if up else (), strict=False):
        axes.set_ylabel(f"{short(up or '')}={value(level)}", fontsize=8)
    for axes in grid.flat:
        axes.tick_params(labelsize=7.5)
    merged = f"\n(over all values of {', '.join(others)} together)" if others else ""
    figure.supxlabel(xlabel + merged, fontsize=10, color=MUTED)
    return figure, [
        (fields.get((value(row if up else None), value(column)), []), axes)
        for row, line in zip(rows, grid, strict=True)
        for column, axes in zip(columns, line, strict=True)
    ]


def few_rows(sweep: Sweep) -> tuple[list[Group], str]:
    """A sweep's groups; where they are too many for a row each, merged by the parameter that colours plots.

    Also what to say of that in an axis label.
    """
    if len(sweep.groups) <= MOST_ROWS:
        return sweep.groups, ""
    return sweep.merged(sweep.axes.hue), f"\n(over all {len(sweep.groups)} settings together)"


def one_row_each(
    groups: Sequence[Group], xlabel: str, height: float | Callable[[Group], float], head: float = 0.0
) -> tuple[Figure, Any, list[tuple[Group, float]]]:
    """Shares from 0 to 1 to the right, one row a group, its name above it.

    Returns the figure, its axes, and for each group y of its row's upper end, in inches: the unit of the
    vertical axis.
    """
    shown = evenly(groups, MOST_ROWS)
    heights = [height(group) if callable(height) else height for group in shown]
    xlabel += cut(len(groups), len(shown))
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
        axes.text(0, y + 0.13, shorten(group.label, 54), fontsize=10, va="center")
        y += size
    return figure, axes, rows


def track(axes: Any, y: float) -> None:
    """The line from 0 to 1 on which a row's marks stand, with a tick at each quarter."""
    axes.plot([0, 1], [y, y], color=PALE, linewidth=1, zorder=1)
    axes.plot([0, 0.25, 0.5, 0.75, 1], [y] * 5, "|", color=PALE, markersize=5, zorder=1)


def key(figure: Figure, lines: Sequence[tuple[str, str]]) -> None:
    """Lines of coloured words at the top: what each colour stands for."""
    for number, (words, colour) in enumerate(lines):
        y = 1 - (0.05 + 0.21 * number) / figure.get_figheight()
        figure.text(0.015, y, words, color=colour, va="top", fontsize=10)


def legend(figure: Figure, lines: Sequence[tuple[str, str, str]], marked: bool = True) -> None:
    """Name, colour and marker of each line, in two columns at the top."""
    handles = [
        Line2D([], [], color=colour, marker=marker if marked else "", markersize=5.5, label=shorten(name, 28))
        for name, colour, marker in lines
    ]
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0, 1),
        ncols=2,
        labelspacing=0.3,
        borderaxespad=0.2,
    )


def _two_lines(text: str, width: int) -> str:
    lines = wrap(text, width, break_on_hyphens=False)
    return "\n".join(lines[:1] + [shorten(" ".join(lines[1:]), width)] * (len(lines) > 1))
