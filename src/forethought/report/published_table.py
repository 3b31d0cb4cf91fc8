"""Table of published against measured: for the terminal, the page and `published.csv`."""

from collections.abc import Sequence

import pandas as pd

from forethought.published import SOLVE_RATE, Paper, PublishedCell, PublishedTable
from forethought.report.published import SMALL_SIBLING, Comparison, Published
from forethought.report.wording import format_number, format_share, is_share

PUBLISHED_TITLES = ("published", "grade", "ours", "runs", "95 %", "")
PUBLISHED_CAPTION = (
    "Shares in per cent; n: seeds of the source. Ours: min–max over seeds. 95 %: prediction interval for the "
    "mean of n runs (one, if the source does not say); for solve rates, the Wilson interval of ours. Agrees: "
    "inside, and the interval is no wider than 20 points. Differs: outside, and not explained by a few of n "
    "seeds with another outcome. Grade A–C, M: of the evidence, see docs/REPORT.md."
)


_OPEN = ["–", "–", "–", "open"]


def label_comparisons(comparisons: Sequence[Comparison]) -> list[str]:
    """Return the name of each row: its cell, after its experiment unless all rows are of one."""
    names = {each.experiment for each in comparisons}
    return [f"{each.experiment} " * (len(names) > 1) + each.cell.label for each in comparisons]


def tabulate_published(comparisons: Sequence[Comparison]) -> list[list[str]]:
    """Return a row of text for each comparison: its name, and a column for each of `PUBLISHED_TITLES`."""
    return [
        [label, *tabulate_comparison(each)]
        for label, each in zip(label_comparisons(comparisons), comparisons, strict=True)
    ]


def tabulate_comparison(each: Comparison) -> list[str]:
    """Return the text of each of `PUBLISHED_TITLES`."""
    return [*_tabulate_cell(each.table, each.cell), *_tabulate_runs(each)]


def tabulate_cells(paper: Paper, name: str, comparisons: Sequence[Comparison]) -> list[list[str]]:
    """Return the same rows for every cell of a table, those without runs as `open`."""
    table, rows = paper.tables[name], []
    for cell in table.cells:
        runs = [_tabulate_runs(each) for each in comparisons if each.cell is cell]
        rows += [[cell.label, *_tabulate_cell(table, cell), *texts] for texts in runs or [_OPEN]]
    return rows


def _tabulate_cell(table: PublishedTable, cell: PublishedCell) -> list[str]:
    """Return the published value as printed, with its uncertainty and number of seeds, and the grade."""
    unit = 100 if _is_percent(table.metric_of(cell)) else 1
    numbers = [cell.value, *([cell.plus_minus] if cell.plus_minus else [])]
    value = "±".join(f"{unit * number:.4g}" for number in numbers)
    return [value + (f" (n={cell.seeds})" if cell.seeds else ""), table.grade]


def _tabulate_runs(each: Comparison) -> list[str]:
    number = format_share if _is_percent(each.metric) else format_number
    interval = "–" if each.interval is None else "–".join(map(number, each.interval))
    if each.metric == SOLVE_RATE:
        ours = f"{sum(each.values):.0f} solved"
    else:
        low, high = number(min(each.values)), number(max(each.values))
        ours = low if low == high else f"{low}–{high}"
    return [ours, str(len(each.values)), interval, each.word or SMALL_SIBLING]


def _is_percent(metric: str | None) -> bool:
    return metric is not None and is_share(metric)


def frame_published(published: Published) -> pd.DataFrame:
    """Return the rows of `published.csv`."""
    rows = [
        {
            "paper": each.paper.name,
            "table": each.table_name,
            "source": each.table.source,
            "grade": each.table.grade,
            "cell": each.cell.label,
            "metric": each.metric,
            "published": each.cell.value,
            "plus_minus": each.cell.plus_minus,
            "published_seeds": each.cell.seeds,
            "experiment": each.experiment,
            "runs": len(each.values),
            "ours": " ".join(f"{value:.6g}" for value in each.values),
            "low": None if each.interval is None else each.interval[0],
            "high": None if each.interval is None else each.interval[1],
            "decision": each.word or SMALL_SIBLING,
            "reason": each.reason,
        }
        for each in published.comparisons
    ]
    return pd.DataFrame(rows)
