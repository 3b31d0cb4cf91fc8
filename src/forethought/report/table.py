"""The table on the terminal."""

import sys
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from forethought.report.columns import COLUMNS, metric_column
from forethought.report.groups import Sweep
from forethought.report.myopia import myopia_gaps
from forethought.report.pairs import Comparison, comparison_table, comparisons, meaning

WIDTH = 100  # where there is no terminal to ask
MOST_ROWS = 40
SPARED = ("decision", "forced")  # where a terminal is narrower; the page has them


def print_table(sweep: Sweep, console: Console | None = None) -> None:
    """Print one row for each group of runs that differ only in the seed, the comparisons, the failures.

    Where there are too many groups to read, those of one colour of the plots share a row.
    """
    console = console or Console(width=None if sys.stdout.isatty() else WIDTH)
    console.print(_table(sweep, console.width))
    compared = comparisons(sweep)
    if compared:
        console.print(_compared(compared))
    for name, gap in myopia_gaps(sweep).items():
        console.print(f"{escape(name)}: {gap}", highlight=False)
    for run in sweep.unfinished:
        reason = escape(run.reason or "no reason was left")
        console.print(f"[red]{run.status}[/] {escape(run.cell)}: {reason}", highlight=False)


def _table(sweep: Sweep, width: int) -> Table:
    few = len(sweep.groups) <= MOST_ROWS
    groups = sweep.groups if few else sweep.merged(sweep.axes.hue)
    table = _empty("chance, accuracy, decision, forced and the interval in per cent; over seeds min–max")
    if not few:
        table.caption = (
            f"{table.caption};\n{len(sweep.groups)} settings: report/groups.csv has a row for each"
        )
    columns = tuple(c for c in COLUMNS if width >= WIDTH or c.title not in SPARED)
    if sweep.axes.metric is not None:  # there is no room for both
        columns = (*columns[:-1], metric_column(sweep.axes.metric))
    for column in columns[:-1]:
        table.add_column(column.title, justify="right", no_wrap=True)
    table.add_column(columns[-1].title, min_width=14)
    for each in groups:
        style = "green" if each.solved and not each.unsolved else ""
        # Text, not markup: a value may hold brackets.
        cells = (column.cell(each).replace(", ", "\n").replace(" (", "\n(") for column in columns)
        table.add_row(Text(each.label), *map(Text, cells), style=style)
    return table


def _compared(compared: Sequence[Comparison]) -> Table:
    table = _empty(meaning(compared))
    titles, rows = comparison_table(compared)
    for title in titles[1:]:
        table.add_column(title, justify="right")
    for name, *cells in rows:
        table.add_row(Text(name), *cells)
    return table


def _empty(caption: str) -> Table:
    """A table with a first column of names."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, caption_justify="left")
    table.caption = caption
    table.add_column("", overflow="fold", min_width=13)
    return table
