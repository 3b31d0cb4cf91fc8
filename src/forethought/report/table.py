"""Table of a report on the terminal."""

import sys
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from forethought.report.columns import build_metric_column, list_columns, may_be_schedule
from forethought.report.myopia import describe_myopia_gaps
from forethought.report.pairs import PAIR_CAPTION, PAIR_TITLES, compare_levels, tabulate_comparisons
from forethought.report.published_table import PUBLISHED_CAPTION, PUBLISHED_TITLES, tabulate_published
from forethought.report.sweep import Sweep
from forethought.report.wording import wrap_name

_PLAIN_WIDTH = 100  # if the output is not a terminal
_MOST_SETTINGS = 40
_MOST_COMPARISONS = 16
_NARROWEST_NAME = 13
_STYLES = {"agrees": "green", "differs": "red"}
_NO_SHARES = ("schedule", "data", "solved", "95 %", "steps", "FLOPs", "verdicts")
_LEAST_WIDTH = {"schedule": 116, "data": 116, "decision": 100, "forced": 100, "FLOPs": 116}
"""Of a terminal, for some columns to be shown; the page has them all."""


def open_console() -> Console:
    """Return the console of the tables; of a fixed width if the output is no terminal."""
    return Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH)


def print_table(sweep: Sweep, console: Console | None = None) -> None:
    """Print a row for each setting, the comparisons, the myopia gaps and the unfinished runs.

    Above 40 settings, settings with the same colour in the plots share a row.
    """
    console = console or open_console()
    console.print(_build_summary_table(sweep, console.width))
    if sweep.published.comparisons:
        console.print(build_published_table(tabulate_published(sweep.published.comparisons), console.width))
    for note in sweep.published.notes:
        console.print(escape(note), highlight=False)
    if rows := tabulate_comparisons(compare_levels(sweep)):
        more = f"\n{len(rows)} comparisons: pairs.csv has a row for each" * (len(rows) > _MOST_COMPARISONS)
        texts = [[Text(text) for text in row] for row in rows[:_MOST_COMPARISONS]]
        console.print(build_table(PAIR_TITLES, texts, PAIR_CAPTION + more, console.width))
    for label, gap in describe_myopia_gaps(sweep).items():
        console.print(f"{escape(label)}: {gap}", highlight=False)
    for run in sweep.unfinished.itertuples():
        reason = escape(run.reason if isinstance(run.reason, str) else "no reason recorded")
        console.print(f"[red]{run.status}[/] {escape(run.cell)}: {reason}", highlight=False)


def build_published_table(
    rows: Sequence[Sequence[str]], width: int, caption: str = PUBLISHED_CAPTION
) -> Table:
    """Return the table of published against measured.

    Args:
        rows: of `tabulate_published`.
    """
    texts = [[Text(text, _STYLES.get(row[-1], "")) for text in row] for row in rows]
    return build_table(PUBLISHED_TITLES, texts, caption, width)


def _build_summary_table(sweep: Sweep, width: int) -> Table:
    summary, more = sweep.summary, ""
    if len(summary) > _MOST_SETTINGS:
        more = f";\n{len(summary)} settings: groups.csv has a row for each"
        summary = sweep.summarise_by(sweep.axes.hue)
    summaries = summary.to_dict("records")
    columns = [c for c in list_columns(summaries) if width >= _LEAST_WIDTH.get(c.title, 0)]
    shares = ", ".join(column.title for column in columns if column.title not in _NO_SHARES)
    if sweep.axes.metric is not None:  # The verdicts and a metric do not both fit.
        columns[-1] = build_metric_column(sweep.axes.metric)
    caption = f"{shares} and the interval in per cent; over seeds min–max{more}"
    if any(may_be_schedule(row) for row in summaries):
        caption += ";\nruns that end unsolved under a decaying rate: may be a matter of the schedule"
    rows = []
    for row in summaries:
        style = "green" if 0 < row["solved"] == row["finished"] else ""
        texts = (column.format(row).replace(", ", "\n").replace(" (", "\n(") for column in columns)
        # Text instead of a string: brackets in a value are not markup.
        rows.append([Text(text, style) for text in (row["setting"], *texts)])
    return build_table([column.title for column in columns], rows, caption, width)


def build_table(titles: Sequence[str], rows: Sequence[Sequence[Text]], caption: str, width: int) -> Table:
    """Return a table whose first column holds names, wrapped where no word is broken."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, caption_justify="left")
    table.caption = caption
    for number, title in enumerate(["", *titles]):
        table.add_column(title, justify="right" if number else "left", no_wrap=True)
    columns = zip(titles, *(row[1:] for row in rows), strict=True)
    lengths = [max(len(line) for text in map(str, column) for line in text.split("\n")) for column in columns]
    free = (
        width - sum(lengths) - 2 * len(lengths) - 2
    )  # Rich puts two spaces between columns, one at each edge.
    for name, *texts in rows:
        wrapped = "\n".join(wrap_name(name.plain, max(free, _NARROWEST_NAME)))
        table.add_row(Text(wrapped, name.style), *texts)
    return table
