"""Table of a report on the terminal."""

import sys
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from forethought.report.columns import COLUMNS, build_metric_column
from forethought.report.groups import Sweep
from forethought.report.myopia import describe_myopia_gaps
from forethought.report.pairs import Comparison, compare_objectives, explain_comparisons, tabulate_comparisons

_FULL_WIDTH = 100  # also the width if the output is not a terminal
_MOST_GROUPS = 40
_WIDE_COLUMNS = ("decision", "forced")  # omitted below the full width; the page has them


def print_table(sweep: Sweep, console: Console | None = None) -> None:
    """Print a row for each group, the comparisons, the myopia gaps and the unfinished runs.

    Above 40 groups, groups with the same colour in the plots share a row.
    """
    console = console or Console(width=None if sys.stdout.isatty() else _FULL_WIDTH)
    console.print(_build_group_table(sweep, console.width))
    comparisons = compare_objectives(sweep)
    if comparisons:
        console.print(_build_comparison_table(comparisons))
    for label, gap in describe_myopia_gaps(sweep).items():
        console.print(f"{escape(label)}: {gap}", highlight=False)
    for run in sweep.unfinished:
        reason = escape(run.reason or "no reason recorded")
        console.print(f"[red]{run.status}[/] {escape(run.cell)}: {reason}", highlight=False)


def _build_group_table(sweep: Sweep, width: int) -> Table:
    caption = "chance, accuracy, decision, forced and the interval in per cent; over seeds min–max"
    groups = sweep.groups
    if len(groups) > _MOST_GROUPS:
        caption += f";\n{len(groups)} settings: report/groups.csv has a row for each"
        groups = sweep.merge_groups(sweep.axes.hue)
    table = _build_table(caption)
    columns = tuple(c for c in COLUMNS if width >= _FULL_WIDTH or c.title not in _WIDE_COLUMNS)
    if sweep.axes.metric is not None:  # The verdicts and a metric do not both fit.
        columns = (*columns[:-1], build_metric_column(sweep.axes.metric))
    for column in columns[:-1]:
        table.add_column(column.title, justify="right", no_wrap=True)
    table.add_column(columns[-1].title, min_width=14)
    for group in groups:
        style = "green" if group.solved and not group.unsolved else ""
        texts = (column.format(group).replace(", ", "\n").replace(" (", "\n(") for column in columns)
        # Text instead of a string: brackets in a value are not markup.
        table.add_row(Text(group.label), *map(Text, texts), style=style)
    return table


def _build_comparison_table(comparisons: Sequence[Comparison]) -> Table:
    table = _build_table(explain_comparisons(comparisons))
    titles, rows = tabulate_comparisons(comparisons)
    for title in titles[1:]:
        table.add_column(title, justify="right")
    for name, *texts in rows:
        table.add_row(Text(name), *texts)
    return table


def _build_table(caption: str) -> Table:
    """Return a table with a first column for names."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, caption_justify="left")
    table.caption = caption
    table.add_column("", overflow="fold", min_width=13)
    return table
