"""Figures laid out in inches, so that nothing overlaps at any number of settings: panels, rows and keys."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import ceil
from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from forethought.report.plots.style import INK, MUTED, PALE, WIDTH
from forethought.report.plots.titles import drop_shared, fit_labels, text_width, wrap_text

_GAP = 0.16  # between panels
_LINE = 0.16  # height of a line of a label
RIGHT = 0.12


class Key:
    """The meaning of colours and markers, in lines at the top of a figure."""

    _SIZE, _LINE, _HANDLE = 9.0, 0.19, 0.37

    def __init__(self, entries: Iterable[tuple[str, Mapping[str, Any]]] = ()) -> None:
        """Take texts and properties of lines, or of a rectangle if they have `facecolor`."""
        self._entries: list[tuple[str, Mapping[str, Any], float, int]] = []
        x, row = 0.1, 0
        for text, style in entries:
            text = wrap_text(text, WIDTH - 0.6, self._SIZE, lines=1)
            width = self._HANDLE + text_width(text, self._SIZE)
            if x > 0.1 and x + width > WIDTH - 0.1:
                x, row = 0.1, row + 1
            self._entries.append((text, style, x, row))
            x += width + 0.16
        self.height = 0.08 + self._LINE * (row + 1) if self._entries else 0.0

    def draw(self, figure: Figure) -> None:
        inches = figure.dpi_scale_trans
        for text, style, x, row in self._entries:
            y = figure.get_figheight() - 0.06 - self._LINE * (row + 0.5)
            if "facecolor" in style:
                figure.add_artist(Rectangle((x + 0.05, y - 0.05), 0.2, 0.1, transform=inches, **style))
            else:
                look: dict[str, Any] = {"linewidth": 1.6, "markersize": 5, **style, "markevery": [1]}
                figure.add_artist(Line2D([x, x + 0.15, x + 0.3], [y] * 3, transform=inches, **look))
            write(figure, x + self._HANDLE, y, text, self._SIZE, va="center_baseline")


def write(figure: Figure, x: float, y: float, text: str, size: float, **style: Any) -> None:
    """Write at a point in inches from the lower left corner."""
    figure.text(x, y, text, transform=figure.dpi_scale_trans, fontsize=size, linespacing=1.1, **style)


def add_axes(figure: Figure, left: float, bottom: float, width: float, height: float, **more: Any) -> Any:
    total = figure.get_figheight()
    return figure.add_axes((left / WIDTH, bottom / total, width / WIDTH, height / total), **more)


def choose_columns(count: int) -> int:
    return count if count <= 3 else 2 if count == 4 else 3 if count <= 30 else 4


def panel_width(columns: int, left: float = 0.66, right: float = RIGHT) -> float:
    return (WIDTH - left - right - _GAP * (columns - 1)) / columns


def create_panels(
    titles: Sequence[str | None],
    xlabel: str,
    ylabel: str,
    *,
    height: float = 1.15,
    key: Key | None = None,
    head: float = 0.0,
    columns: int | None = None,
    notes: Sequence[str] = (),
    left: float = 0.66,
    right: float = RIGHT,
    foot: float = 0.2,
) -> tuple[Figure, list[Any]]:
    """Create panels with titles, all with the same axes.

    Args:
        titles: labels of settings; None leaves a place empty.
        height: of a panel, in inches.
        key: drawn at the top.
        head: free inches above the panels, if there is no key.
        columns: number of panels side by side; None selects it by their number.
        notes: a second, lighter line below each title.
        left: inches for tick labels and label of the vertical axis.
        right: inches to the right of the panels.
        foot: inches for tick labels of the horizontal axis.
    """
    columns = columns or choose_columns(len(titles))
    width = panel_width(columns, left, right)
    size = {1: 10.0, 2: 9.5, 3: 8.5}.get(columns, 8.0)
    line = size * 1.25 / 72
    places = [place for place, title in enumerate(titles) if title is not None]
    names = drop_shared([titles[place] or "" for place in places])
    row_titles, names = _factor_titles(names, columns) if len(places) == len(titles) else ([], names)
    texts = dict(zip(places, fit_labels(names, width, size, "bold", lines=4), strict=True))
    heads = [0.15 + line * (bool(notes) + bool(row_titles))] * ceil(len(titles) / columns)
    for row in range(len(heads)):
        inside = [text for place, text in texts.items() if place // columns == row]
        heads[row] += line * max(text.count("\n") + bool(text) for text in inside)
    head = key.height if key else head
    labels = wrap_text(xlabel, WIDTH - left, 9.5, lines=4).split("\n") if xlabel else []
    bottom = foot + _LINE * len(labels) + 0.08
    figure = Figure(figsize=(WIDTH, head + sum(heads) + height * len(heads) + bottom))
    panels: list[Any] = []
    for place, text in texts.items():
        row, column = divmod(place, columns)
        x = left + column * (width + _GAP)
        y = figure.get_figheight() - head - sum(heads[: row + 1]) - height * (row + 1)
        shared = {"sharex": panels[0], "sharey": panels[0]} if panels else {}
        axes = add_axes(figure, x, y, width, height, label=titles[place], **shared)
        axes.tick_params(length=2.5, pad=2, labelleft=column == 0, labelbottom=place + columns not in texts)
        top = y + height + 0.07
        if notes:
            write(figure, x, top, notes[len(panels)], size - 1, color=MUTED, va="baseline")
            top += line
        weight = "normal" if row_titles else "bold"
        write(figure, x, top, text, size, fontweight=weight, va="baseline")
        if row_titles and column == 0:
            top = y + height + heads[row] - line - 0.08
            write(figure, x, top, row_titles[row], size + 0.5, fontweight="bold", va="baseline")
        panels.append(axes)
    if key:
        key.draw(figure)
    _write_label(figure, (left + WIDTH - right) / 2, labels)
    middle = (bottom + figure.get_figheight() - head) / 2
    write(figure, 0.03, middle, ylabel, 9.5, rotation=90, va="center", color=MUTED)
    return figure, panels


def _factor_titles(titles: list[str], columns: int) -> tuple[list[str], list[str]]:
    """Return a title for each row, and those of the panels, which only the first row needs.

    There are no titles of rows unless the panels are a full matrix.
    """
    rows = [[title.split(" ") for title in titles[i : i + columns]] for i in range(0, len(titles), columns)]
    shared = [[word for word in row[0] if all(word in words for words in row)] for row in rows]
    rest = [
        [" ".join(word for word in words if word not in common) for words in row]
        for row, common in zip(rows, shared, strict=True)
    ]
    if len(rows) < 2 or columns < 2 or not all(shared) or any(row != rest[0] for row in rest):
        return [], titles
    return [" ".join(words) for words in shared], rest[0] + [""] * (len(titles) - columns)


def create_rows(
    labels: Sequence[str],
    xlabel: str,
    heights: Sequence[float],
    key: Key | None = None,
    right: float = 0.25,
) -> tuple[Figure, Any, list[float]]:
    """Create a row for each label, with the label to the left and shares from 0 to 1 to the right.

    Args:
        heights: of each row at least, in inches.
        key: drawn at the top.
        right: inches to the right of the shares.

    Returns:
        The figure, its axes, and the middle of each row. The vertical unit is an inch.
    """
    labels = drop_shared(labels)
    left = 0.15 + min(1.75, max(text_width(label, 9) for label in labels))
    texts = fit_labels(labels, left - 0.15, 9, lines=4)
    heights = [
        max(height, 0.06 + _LINE * (text.count("\n") + 1))
        for height, text in zip(heights, texts, strict=True)
    ]
    lines = wrap_text(xlabel, WIDTH - left, 9.5, lines=4).split("\n")
    body, foot = sum(heights), 0.32 + _LINE * len(lines)
    figure = Figure(figsize=(WIDTH, 0.06 + (key.height if key else 0) + body + foot))
    axes = add_axes(figure, left, foot, WIDTH - left - right, body)
    axes.set(xlim=(0, 1), ylim=(body, 0), yticks=[])
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], labels=["0", "25", "50", "75", "100 %"])
    axes.tick_params(length=2.5, pad=2)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", color=PALE, linewidth=0.7)
    axes.set_axisbelow(True)
    middles, y = [], 0.0
    for text, height in zip(texts, heights, strict=True):
        middles.append(y + height / 2)
        write(figure, left - 0.09, foot + body - middles[-1], text, 9, ha="right", va="center", color=INK)
        y += height
    if key:
        key.draw(figure)
    _write_label(figure, (left + WIDTH - right) / 2, lines)
    return figure, axes, middles


def _write_label(figure: Figure, middle: float, lines: list[str]) -> None:
    """Write the label of the horizontal axis at the bottom: its name, and notes below."""
    for number, line in enumerate(lines):
        y = 0.06 + _LINE * (len(lines) - 1 - number)
        write(figure, middle, y, line, 8.5 if number else 9.5, ha="center", color=MUTED)


def set_percent(axes: Any) -> None:
    """Give the vertical axis the ticks 0, 50 % and 100 %."""
    axes.set_ylim(-0.05, 1.08)
    axes.set_yticks([0, 0.5, 1], labels=["0", "50 %", "100 %"])


def format_percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def format_large(number: float, _: int | None = None) -> str:
    """Format a number of steps, rows or operations on an axis: `2.5k`."""
    units = ((10.0 ** (3 * power), name) for power, name in zip(range(6, 0, -1), "EPTGMk", strict=True))
    unit, name = next(((unit, name) for unit, name in units if number >= unit), (1, ""))
    return f"{number / unit:g}{name}"


def draw_chance(axes: Any, levels: Iterable[float]) -> None:
    for level in sorted(set(levels)):
        axes.axhline(level, color=MUTED, linewidth=0.9, linestyle=(0, (3, 3)), zorder=1)


def draw_seeds(axes: Any, seeds: Iterable[tuple[Any, Any]], colour: str) -> None:
    """Draw a thin line for each seed, all of them as one collection: a sweep may have a thousand."""
    lines = [np.column_stack([x, y]) for x, y in seeds]
    axes.add_collection(LineCollection(lines, colors=colour, linewidths=0.6, alpha=0.5, zorder=2))
    axes.autoscale_view()


def draw_colour_bar(
    figure: Figure,
    title: str,
    norm: Normalize,
    colours: Any,
    ticks: Sequence[float],
    format: Callable[[float], str],
) -> None:
    """Draw the title of a figure and its colour bar in half an inch at the top."""
    y = figure.get_figheight() - 0.2
    write(figure, 0.1, y, wrap_text(title, 2.7, 9.5, lines=2), 9.5, va="center")
    axes = add_axes(figure, 3.0, y, 1.7, 0.1)
    bar = figure.colorbar(ScalarMappable(norm, colours), cax=axes, orientation="horizontal")
    bar.outline.set_visible(False)
    bar.set_ticks(list(ticks), labels=list(map(format, ticks)))
    bar.ax.minorticks_off()
    axes.tick_params(length=0, labelsize=8, pad=2)
