"""Layouts in inches, so that nothing overlaps at any number of settings: panels, rows and keys."""

import re
from collections.abc import Callable, Mapping, Sequence
from math import ceil
from typing import Any, NamedTuple, TypeVar

import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from forethought.report.names import shorten_name
from forethought.report.objectives import BASELINE
from forethought.report.plots.style import BLUE, INK, MUTED, PALE, WIDTH, Look, choose_looks
from forethought.report.plots.titles import drop_shared, fit_labels, text_width, wrap_text
from forethought.report.sweep import Sweep
from forethought.results.frame import format_value

_T = TypeVar("_T")

MOST_PANELS, MOST_LINES, MOST_ROWS = 36, 7, 30
PERCENT = (0, 0.5, 1), ("0", "50 %", "100 %")


class Panel(NamedTuple):
    title: str
    runs: pd.DataFrame


def _list_settings(sweep: Sweep, runs: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return the swept parameters of each setting."""
    columns = list(dict.fromkeys(["setting", "objective", *sweep.keys]))
    return {row["setting"]: row for row in runs.drop_duplicates("setting")[columns].to_dict("records")}


def split_panels(
    sweep: Sweep, runs: pd.DataFrame, without: Sequence[str | None], everywhere: str | None = None
) -> list[Panel]:
    """Return the runs for each combination of the swept parameters, except those in `without`, in order.

    Runs without one of these parameters, such as the baseline without a horizon, are in the panels of
    all its values, and in a panel of their own only if there is none.

    Args:
        everywhere: an objective whose runs are in the panels of all objectives.
    """
    keys = [key for key in sweep.keys if key not in without]
    levels = {key: [format_value(level) for level in sweep.levels(key)] for key in keys}

    def place(row: Any) -> tuple[int, ...]:
        """Return the rank of each value; -1 for any."""
        return tuple(
            -1 if pd.isna(row[key]) or (key == "objective" and row[key] == everywhere)
            else levels[key].index(format_value(row[key]))
            for key in keys
        )

    settings = _list_settings(sweep, runs)
    places = {setting: place(row) for setting, row in settings.items()}

    def covers(wide: tuple[int, ...], narrow: tuple[int, ...]) -> bool:
        return all(a in (-1, b) for a, b in zip(wide, narrow, strict=True))

    distinct = sorted(set(places.values()))
    panels = []
    for spot in distinct:
        if not any(covers(spot, other) for other in distinct if other != spot):
            first = next(setting for setting, own in places.items() if own == spot)
            title = sweep.label(settings[first], without)
            inside = [setting for setting, own in places.items() if covers(own, spot)]
            panels.append(Panel(title, runs[runs["setting"].isin(inside)]))
    return panels


class Line(NamedTuple):
    name: str
    look: Look
    runs: pd.DataFrame


class LinePanel(NamedTuple):
    title: str
    lines: list[Line]


class LineLayout(NamedTuple):
    panels: list[LinePanel]
    columns: int
    key: "Key"
    note: str
    """Lines below the label of the horizontal axis."""

    @property
    def titles(self) -> list[str]:
        return [panel.title for panel in self.panels]


def arrange_lines(
    sweep: Sweep, runs: pd.DataFrame, without: Sequence[str | None], most_lines: int = MOST_LINES, marked: bool = False
) -> LineLayout:
    """Return a line for each value of the hue, in a panel for each combination of all other parameters.

    If the hue has too many values for one panel, each has a panel, with the baseline in all of them.
    """
    hue = sweep.axes.hue if sweep.axes.hue not in without else None
    looks = choose_looks(sweep, hue)
    if apart := len(looks) > most_lines:
        panels = split_panels(sweep, runs, without, everywhere=BASELINE)
        named = {level: look for level, look in looks.items() if level == BASELINE}
    else:
        panels = split_panels(sweep, runs, [*without, hue])
        named = looks if len(looks) > 1 else {}
    rest = [key for key in sweep.keys if key not in (*without, None if apart else hue)]
    across = len(sweep.levels(rest[-1])) if rest else 1
    shown = panels if len(panels) <= MOST_PANELS else take_evenly(panels, MOST_PANELS // 3)
    columns = across if 2 <= across <= 4 and len(shown) % across == 0 else choose_columns(len(shown))
    note = f"\n{len(shown)} of {len(panels)} panels, evenly spaced; select others with --where"
    return LineLayout(
        [LinePanel(panel.title, _split_lines(panel.runs, hue, looks)) for panel in shown],
        columns,
        Key(
            [
                (format_value(level), look._asdict() | ({} if marked else {"marker": ""}))
                for level, look in named.items()
                if (runs[hue] == level).any()
            ]
        ),
        note if len(shown) < len(panels) else "",
    )


def _split_lines(runs: pd.DataFrame, hue: str | None, looks: Mapping[Any, Look]) -> list[Line]:
    """Return the runs of each value of the hue, in order; those without a value come first, in grey."""
    if hue is None:
        return [Line(runs["setting"].iloc[0], Look(BLUE, "o", "-"), runs)]
    lines = [Line("null", Look(MUTED, "o", "-"), runs[runs[hue].isna()])]
    lines += [Line(format_value(level), look, runs[runs[hue] == level]) for level, look in looks.items()]
    return [line for line in lines if len(line.runs)]


def pool_settings(sweep: Sweep, runs: pd.DataFrame, most: int = MOST_ROWS) -> tuple[list[Panel], str]:
    """Return the runs of each setting, and a note for an axis. Too many settings are pooled over x and y, then others."""
    rest = tuple(key for key in sweep.keys if key != sweep.axes.hue)
    for pooled in ((), tuple(key for key in (sweep.axes.x, sweep.axes.y) if key), rest):
        labels = {
            setting: sweep.label(row, without=pooled)
            for setting, row in _list_settings(sweep, runs).items()
        }
        if len(set(labels.values())) <= most:
            break
    names = list(dict.fromkeys(labels.values()))
    groups = [
        Panel(name, runs[runs["setting"].isin([s for s, label in labels.items() if label == name])])
        for name in names[:most]
    ]
    note = f"\nover all values of {' and '.join(map(shorten_name, pooled))}" if pooled else ""
    if len(names) > most:
        note += f"\nthe first {most} of {len(names)}; select others with --where"
    return groups, note


def take_evenly(items: Sequence[_T], most: int) -> list[_T]:
    """Return at most `most` items, evenly spaced, including the first and the last."""
    if len(items) <= most:
        return list(items)
    return [items[round(number * (len(items) - 1) / (most - 1))] for number in range(most)]


def is_share(metric: str) -> bool:
    """Return True for metrics between 0 and 1, which are given in per cent."""
    return bool(re.search("accuracy|error_|chance|given_|follows_|reward|distinct", metric))


def count_solved(runs: pd.DataFrame) -> tuple[int, int]:
    """Return the numbers of solved and of finished runs."""
    return int((runs["verdict"] == "solved").sum()), len(runs)


def format_solved(runs: pd.DataFrame) -> str:
    solved, finished = count_solved(runs[runs["status"] == "finished"])
    return f"{solved} of {finished} solved"


def format_large(number: float, _: int | None = None) -> str:
    """Format a number of steps or rows on an axis: `2.5k`."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= unit:
            return f"{number / unit:g}{name}"
    return f"{number:g}"


def strip_prefix(runs: pd.DataFrame, prefix: str) -> pd.DataFrame:
    """Return the columns of metrics that start with a prefix, without it, and without empty columns."""
    names = [name for name in runs.columns if name.startswith(prefix)]
    return runs[names].rename(columns=lambda name: name.removeprefix(prefix)).astype(float).dropna(axis=1, how="all")


class Key:
    """The meaning of colours and markers, in lines at the top of a figure."""

    _SIZE, _LINE, _HANDLE, _GAP = 9.0, 0.19, 0.3, 0.16

    def __init__(self, entries: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """Take texts and properties of lines, or of a rectangle if they have `facecolor`."""
        self._places, x, row = [], 0.0, 0
        for text, style in entries:
            text = wrap_text(text, WIDTH - 0.6, self._SIZE, lines=1)
            width = self._HANDLE + 0.07 + text_width(text, self._SIZE)
            if x and x + width > WIDTH - 0.2:
                x, row = 0.0, row + 1
            self._places.append((text, style, x, row))
            x += width + self._GAP
        self.height = 0.08 + self._LINE * (row + 1) if entries else 0.0

    def draw(self, figure: Figure, top: float = 0.06) -> None:
        for text, style, x, row in self._places:
            left, y = 0.1 + x, figure.get_figheight() - top - self._LINE * (row + 0.5)
            if "facecolor" in style:
                box = Rectangle((left + 0.05, y - 0.05), 0.2, 0.1, transform=figure.dpi_scale_trans, **style)
                figure.add_artist(box)
            else:
                xs = [left, left + self._HANDLE / 2, left + self._HANDLE]
                look: dict[str, Any] = {"linewidth": 1.6, "markersize": 5, **style, "markevery": [1]}
                figure.add_artist(Line2D(xs, [y] * 3, transform=figure.dpi_scale_trans, **look))
            figure.text(
                left + self._HANDLE + 0.07, y, text, transform=figure.dpi_scale_trans, fontsize=self._SIZE,
                va="center_baseline",
            )


def choose_columns(count: int) -> int:
    return count if count <= 3 else 2 if count == 4 else 3


def create_panels(
    titles: Sequence[str | None],
    xlabel: str = "",
    ylabel: str = "",
    *,
    height: float = 1.15,
    head: float = 0.0,
    columns: int | None = None,
    notes: Sequence[str] = (),
    left: float = 0.62,
    right: float = 0.12,
    foot: float = 0.2,
) -> tuple[Figure, list[Any]]:
    """Create panels with titles, all with the same axes.

    Args:
        titles: labels of settings; None leaves a place empty.
        height: of a panel, in inches.
        head: free inches above the panels.
        columns: number of panels side by side; None selects it by their number.
        notes: a second, lighter line below each title.
        left: inches for tick labels and label of the vertical axis.
        right: inches to the right of the panels.
        foot: inches for tick labels of the horizontal axis.
    """
    columns = columns or choose_columns(len(titles))
    rows, gap = ceil(len(titles) / columns), 0.16
    width = (WIDTH - left - right - gap * (columns - 1)) / columns
    size = {1: 10.0, 2: 9.5, 3: 8.5}.get(columns, 8.0)
    line = size * 1.25 / 72
    places = [number for number, title in enumerate(titles) if title is not None]
    names = drop_shared([titles[place] or "" for place in places])
    row_titles, names = _factor_titles(names, columns) if len(names) == len(titles) else ([], names)
    texts = dict(zip(places, fit_labels(names, width, size, "bold", lines=4), strict=True))
    lines = [
        max(text.count("\n") + bool(text) for place, text in texts.items() if place // columns == row)
        for row in range(rows)
    ]
    heads = [0.15 + line * (count + bool(notes) + bool(row_titles)) for count in lines]
    labels = wrap_text(xlabel, WIDTH - left, 9.5, lines=4).split("\n") if xlabel else []
    bottom = foot + 0.16 * len(labels) + 0.08
    total = head + sum(heads) + rows * height + bottom
    figure = Figure(figsize=(WIDTH, total))
    panels: list[Any] = []
    top = head
    for number, text in texts.items():
        row, column = divmod(number, columns)
        if column == 0:
            top += heads[row] + (height if row else 0)
            if row_titles:
                y = 1 - (top - line * (lines[row] + bool(notes)) - 0.05) / total
                heading = wrap_text(row_titles[row], WIDTH - left, size + 0.5, "bold", lines=1)
                figure.text(left / WIDTH, y, heading, fontsize=size + 0.5, fontweight="bold", va="bottom")
        place = left + column * (width + gap), total - top - height, width, height
        axes = figure.add_axes(
            (place[0] / WIDTH, place[1] / total, place[2] / WIDTH, place[3] / total),
            sharex=panels[0] if panels else None,
            sharey=panels[0] if panels else None,
        )
        axes.tick_params(length=2.5, pad=2, labelleft=column == 0, labelbottom=number + columns not in texts)
        offset = 0.05
        if notes:
            axes.annotate(notes[len(panels)], (0, 1), (0, 72 * offset), xycoords="axes fraction",
                          textcoords="offset points", fontsize=size - 1, color=MUTED, va="bottom")
            offset += line
        axes.annotate(text, (0, 1), (0, 72 * offset), xycoords="axes fraction", textcoords="offset points",
                      fontsize=size, fontweight="normal" if row_titles else "bold", va="bottom", linespacing=1.1)
        panels.append(axes)
    middle = (left + WIDTH - right) / 2 / WIDTH
    for number, text in enumerate(labels[::-1]):
        figure.text(middle, (0.06 + 0.16 * number) / total, text, ha="center", fontsize=9.5 if number == len(labels) - 1 else 8.5, color=MUTED)
    if ylabel:
        figure.text(0.05 / WIDTH, (bottom + (total - head - bottom) / 2) / total, ylabel, rotation=90, va="center", fontsize=9.5, color=MUTED)
    return figure, panels


def _factor_titles(titles: list[str], columns: int) -> tuple[list[str], list[str]]:
    """Return a title for each row, and those of the panels, which only the first row needs.

    There are no titles of rows unless the panels are a full matrix.
    """
    rows = [[title.split(" ") for title in titles[i : i + columns]] for i in range(0, len(titles), columns)]
    shared = [[word for word in row[0] if all(word in words for words in row)] for row in rows]
    rest = [[[word for word in words if word not in common] for words in row] for row, common in zip(rows, shared, strict=True)]
    if len(rows) < 2 or columns < 2 or any(row != rest[0] for row in rest) or not all(shared):
        return [], titles
    return [" ".join(words) for words in shared], [" ".join(w) for w in rest[0]] + [""] * (len(titles) - columns)


def create_rows(
    labels: Sequence[str], xlabel: str, *, height: float | Callable[[int], float] = 0.26, head: float = 0.0, right: float = 0.25
) -> tuple[Figure, Any, list[tuple[float, float]]]:
    """Create a row for each label, with the label to the left and shares from 0 to 1 to the right.

    Return the figure, its axes, and top and height of each row. The vertical unit is an inch.
    """
    size = 9.0
    labels = drop_shared(labels)
    left = 0.15 + min(1.75, max(text_width(label, size) for label in labels))
    texts = fit_labels(labels, left - 0.15, size, lines=4)
    heights = [
        max(height(number) if callable(height) else height, 0.06 + 0.16 * (text.count("\n") + 1))
        for number, text in enumerate(texts)
    ]
    lines = wrap_text(xlabel, WIDTH - left, 9.5, lines=4).split("\n")
    body, foot = sum(heights), 0.32 + 0.16 * len(lines)
    total = head + body + foot
    figure = Figure(figsize=(WIDTH, total))
    axes = figure.add_axes((left / WIDTH, foot / total, (WIDTH - left - right) / WIDTH, body / total))
    axes.set(xlim=(0, 1), ylim=(body, 0), yticks=[])
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], labels=["0", "25", "50", "75", "100 %"])
    axes.tick_params(length=2.5, pad=2)
    axes.spines["left"].set_visible(False)
    for x in (0, 0.25, 0.5, 0.75, 1):
        axes.axvline(x, color=PALE, linewidth=0.7, zorder=0)
    for number, line in enumerate(lines[::-1]):
        figure.text((left + WIDTH - right) / 2 / WIDTH, (0.07 + 0.16 * number) / total, line, ha="center", color=MUTED, fontsize=9.5 if number == len(lines) - 1 else 8.5)
    spots, y = [], 0.0
    for text, tall in zip(texts, heights, strict=True):
        axes.annotate(text, (0, y + tall / 2), (-6, 0), textcoords="offset points", ha="right", va="center", fontsize=size, color=INK, annotation_clip=False, linespacing=1.1)
        spots.append((y, tall))
        y += tall
    return figure, axes, spots


def set_percent(axes: Any) -> None:
    """Give the vertical axis the ticks 0, 50 % and 100 %."""
    axes.set_ylim(-0.05, 1.08)
    axes.set_yticks(*[list(entry) for entry in PERCENT])


def draw_chance(axes: Any, chance: float) -> None:
    axes.axhline(chance, color=MUTED, linewidth=0.9, linestyle=(0, (3, 3)), zorder=1)


def draw_colour_bar(
    figure: Figure, title: str, norm: Normalize, colours: Any, ticks: Sequence[float], labels: Sequence[str]
) -> None:
    """Draw the title of a figure and its colour bar in half an inch at the top."""
    total = figure.get_figheight()
    text = wrap_text(title, 2.7, 9.5, lines=2)
    figure.text(0.1 / WIDTH, 1 - 0.2 / total, text, fontsize=9.5, va="center")
    axes = figure.add_axes((3.0 / WIDTH, 1 - 0.2 / total, 1.7 / WIDTH, 0.1 / total))
    bar = figure.colorbar(ScalarMappable(norm, colours), cax=axes, orientation="horizontal")
    bar.outline.set_visible(False)
    bar.set_ticks(list(ticks), labels=list(labels))
    bar.ax.minorticks_off()
    axes.tick_params(length=0, labelsize=8, pad=2)
