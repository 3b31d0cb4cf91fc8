"""The table on the terminal."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from forethought.report.columns import COLUMNS
from forethought.report.groups import Sweep, group, load
from forethought.report.myopia import myopia_gaps
from forethought.results import Results

WIDTH = 100  # where there is no terminal to ask


def print_table(results: Path | Sequence[Results], console: Console | None = None) -> None:
    """Print one row for each group of runs that differ only in the seed; below it the runs that failed.

    Raises:
        InputError: there are no results.
    """
    sweep = load(results) if isinstance(results, Path) else group(results)
    console = console or Console(width=None if sys.stdout.isatty() else WIDTH)
    console.print(_table(sweep))
    for name, gap in myopia_gaps(sweep).items():
        console.print(f"{escape(name)}: {gap}", highlight=False)
    for run in sweep.unfinished:
        reason = escape(run.reason or "no reason was left")
        console.print(f"[red]{run.status}[/] {escape(run.cell)}: {reason}", highlight=False)


def _table(sweep: Sweep) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, caption_justify="left")
    table.caption = "chance, accuracy, decision, forced and the interval in per cent; over seeds min–max"
    table.add_column("", overflow="fold", min_width=16)
    for column in COLUMNS:
        last = column is COLUMNS[-1]
        table.add_column(column.title, justify="left" if last else "right", no_wrap=True)
    for each in sweep.groups:
        style = "green" if each.solved and not each.unsolved else ""
        # Text, not markup: a value may hold brackets.
        cells = (column.cell(each).replace(", ", "\n") for column in COLUMNS)
        table.add_row(Text(each.label), *map(Text, cells), style=style)
    return table
