"""Grouping of the runs of a sweep into panels, lines and rows."""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import pandas as pd
from matplotlib.figure import Figure

from forethought.report.names import shorten_name
from forethought.report.objectives import BASELINE
from forethought.report.plots.layout import Key, choose_columns, create_panels
from forethought.report.plots.style import BLUE, MUTED, Look, choose_looks
from forethought.report.sweep import Sweep
from forethought.results.frame import format_value

_T = TypeVar("_T")

MOST_LINES = 7  # More colours in one panel cannot be told apart.
_MOST_PANELS, _FEW_PANELS, _MOST_ROWS = 36, 12, 30


class Panel(NamedTuple):
    title: str
    runs: pd.DataFrame


def split_panels(
    sweep: Sweep, runs: pd.DataFrame, without: Sequence[str | None] = (), everywhere: str | None = None
) -> list[Panel]:
    """Return the runs for each combination of the swept parameters, except those in `without`, in order.

    Runs without one of these parameters, such as the baseline without a horizon, are in the panels of
    all its values, and in a panel of their own only if there is none.

    Args:
        everywhere: an objective whose runs are in the panels of all objectives.
    """
    keys = [key for key in sweep.keys if key not in without]
    ranks = {key: {format_value(level): n for n, level in enumerate(sweep.levels(key))} for key in keys}
    settings = runs.drop_duplicates("setting")[["setting", *sweep.keys]].to_dict("records")
    # The rank of each value; -1, where there is none, stands for any.
    places = {
        row["setting"]: tuple(
            -1
            if key == "objective" and row[key] == everywhere
            else ranks[key].get(format_value(row[key]), -1)
            for key in keys
        )
        for row in settings
    }

    def covers(wide: tuple[int, ...], narrow: tuple[int, ...]) -> bool:
        if -1 not in wide:  # of a thousand cells, nearly all
            return wide == narrow
        return all(a in (-1, b) for a, b in zip(wide, narrow, strict=True))

    distinct = sorted(set(places.values()))
    panels = []
    for place in distinct:
        if not any(covers(place, other) for other in distinct if other != place):
            title = next(sweep.label(row, without) for row in settings if places[row["setting"]] == place)
            inside = [setting for setting, own in places.items() if covers(own, place)]
            panels.append(Panel(title, runs[runs["setting"].isin(inside)]))
    return panels


def pool_settings(
    sweep: Sweep, runs: pd.DataFrame, most: int = _MOST_ROWS, without: Sequence[str | None] = ()
) -> tuple[list[Panel], list[str], str]:
    """Return the runs of each setting; too many are pooled over x and y, or over all but the colours.

    The other values are the parameters pooled over and a note on them for an axis.
    """
    x, y, hue = sweep.axes.x, sweep.axes.y, sweep.axes.hue
    pooled: list[str]
    for pooled in [], [key for key in (x, y) if key], [key for key in sweep.keys if key != hue]:
        panels = split_panels(sweep, runs, [*without, *pooled])
        if len(panels) <= most:
            break
    note = f"\nover all values of {' and '.join(map(shorten_name, pooled))}" if pooled else ""
    if len(panels) > most:
        note += f"\nthe first {most} of {len(panels)}; select others with --where"
    return panels[:most], pooled, note


class Line(NamedTuple):
    name: str
    look: Look
    runs: pd.DataFrame


class LineLayout(NamedTuple):
    """Panels of lines, a line for each value of the hue."""

    titles: list[str]
    lines: list[list[Line]]
    columns: int
    key: Key
    omitted: int
    """Number of panels that are too many."""

    def create(self, xlabel: str, ylabel: str, **layout: Any) -> tuple[Figure, list[tuple[list[Line], Any]]]:
        """Return the figure with its key, and the lines and the axes of each panel."""
        if self.omitted:
            total = len(self.lines) + self.omitted
            xlabel += f"\n{len(self.lines)} of {total} panels, evenly spaced; select others with --where"
        layout = {"key": self.key, "columns": self.columns, **layout}
        figure, grid = create_panels(self.titles, xlabel, ylabel, **layout)
        return figure, list(zip(self.lines, grid, strict=True))


def arrange_lines(
    sweep: Sweep,
    runs: pd.DataFrame,
    without: Sequence[str | None] = (),
    most_lines: int = MOST_LINES,
    marked: bool = True,
) -> LineLayout:
    """Return a line for each value of the hue, or else of x, in panels for all other parameters.

    If the hue has too many values for one panel, each has a panel, with the baseline in all of them.

    Args:
        without: parameters that neither panels nor lines distinguish.
        marked: whether the lines have markers.
    """
    hue = next((key for key in (sweep.axes.hue, sweep.axes.x) if key and key not in without), None)
    looks = {level: look for level, look in choose_looks(sweep, hue).items() if (runs[hue] == level).any()}
    apart = len(looks) > most_lines
    panels = split_panels(sweep, runs, without if apart else [*without, hue], BASELINE if apart else None)
    shown = panels if len(panels) <= _MOST_PANELS else take_evenly(panels, _FEW_PANELS)
    rest = [key for key in sweep.keys if key not in (*without, None if apart else hue)]
    across = len(sweep.levels(rest[-1])) if rest else 1
    key = Key(
        (_name_line(hue, level), look._asdict() | ({} if marked else {"marker": ""}))
        for level, look in looks.items()
        if len(looks) > 1 and (not apart or level == BASELINE)
    )
    return LineLayout(
        [panel.title for panel in shown],
        [_split_lines(panel.runs, hue, looks) for panel in shown],
        across if 2 <= across <= 4 and len(shown) % across == 0 else choose_columns(len(shown)),
        key,
        len(panels) - len(shown),
    )


def _split_lines(runs: pd.DataFrame, hue: str | None, looks: dict[Any, Look]) -> list[Line]:
    """Return the runs of each value of the hue, in order; those without a value come first, in grey."""
    if hue is None:
        return [Line(runs["setting"].iloc[0], Look(BLUE, "o", "-"), runs)]
    lines = [Line("null", Look(MUTED, "o", "-"), runs[runs[hue].isna()])]
    lines += [Line(_name_line(hue, level), look, runs[runs[hue] == level]) for level, look in looks.items()]
    return [line for line in lines if len(line.runs)]


def _name_line(hue: str | None, level: Any) -> str:
    """Return `next_token` for a choice, `degree=2` for a field."""
    return f"{shorten_name(hue)}={format_value(level)}" if hue and "." in hue else format_value(level)


def take_evenly(items: Sequence[_T], most: int) -> list[_T]:
    """Return at most `most` items, evenly spaced, including the first and the last."""
    if len(items) <= most:
        return list(items)
    return [items[round(number * (len(items) - 1) / (most - 1))] for number in range(most)]


def count_solved(runs: pd.DataFrame) -> tuple[int, int]:
    """Return the numbers of solved and of finished runs."""
    return int((runs["verdict"] == "solved").sum()), int((runs["status"] == "finished").sum())


def strip_prefix(runs: pd.DataFrame, prefix: str) -> pd.DataFrame:
    """Return the metrics that start with a prefix, without it, and without empty columns."""
    names = {name: name.removeprefix(prefix) for name in runs.columns if name.startswith(prefix)}
    return runs[list(names)].rename(columns=names).dropna(axis=1, how="all")
