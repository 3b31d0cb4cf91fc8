"""Published numbers beside the measured ones: the runs that match each published cell."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

import pandas as pd

from forethought.published import (
    SOLVE_RATE,
    Paper,
    PublishedCell,
    PublishedTable,
    load_papers,
    read_protocol,
    same_value,
)
from forethought.report.agreement import LEVEL, Agreement, decide
from forethought.report.experiments import list_deviations, list_experiments
from forethought.report.wording import count_noun
from forethought.results.frame import format_value

SMALL_SIBLING = "small sibling"
_CONTRAST = 0.1  # least difference of published values whose order is compared


@dataclass(frozen=True)
class Comparison:
    """A published cell with the runs that stand beside it."""

    paper: Paper
    table_name: str
    cell: PublishedCell
    is_small: bool
    values: tuple[float, ...]
    """Of our finished runs: the metric, or 1 and 0 for solved and not."""
    interval: tuple[float, float] | None
    word: Agreement | None
    """None for a small sibling, which is another setting."""
    reason: str

    @property
    def table(self) -> PublishedTable:
        return self.paper.tables[self.table_name]

    @property
    def experiment(self) -> str:
        return self.paper.experiment(self.table_name, small=self.is_small)

    @property
    def metric(self) -> str:
        return self.table.metric_of(self.cell) or ""


@dataclass(frozen=True)
class Published:
    """All comparisons of a DataFrame of runs."""

    comparisons: tuple[Comparison, ...] = ()
    notes: tuple[str, ...] = ()
    """Sentences on runs of another setting, and on the order of values in small siblings."""


def compare_published(runs: pd.DataFrame, papers: Iterable[Paper] | None = None) -> Published:
    """Compare the runs of `load_sweep` with every published cell that they match.

    A run matches a cell if it belongs to the experiment of the table or to its small sibling, has the values
    of the cell's keys, and has no setting that its experiment does not have (`list_deviations`).

    Args:
        papers: those of the package by default.
    """
    # A run may lie in several sweeps.
    runs = runs[runs["status"] == "finished"].drop_duplicates("cell")
    experiments = list_experiments(runs)
    known = {name for names in experiments for name in names}
    comparisons: list[Comparison] = []
    notes: list[str] = []
    for paper in load_papers() if papers is None else papers:
        for name, table in paper.tables.items():
            of_table: list[Comparison] = []
            # A further table of the same experiment has no sibling of its own.
            for small in (False,) if table.experiment else (False, True):
                experiment = paper.experiment(name, small=small)
                if experiment not in known:
                    continue
                member = experiments.map(lambda names, name=experiment: name in names).astype(bool)
                same, others = _split_settings(runs[member], experiment)
                notes += others
                for cell in table.cells:
                    if compared := _compare(paper, name, cell, same, small):
                        of_table.append(compared)
            comparisons += of_table
            if any(each.is_small for each in of_table):
                notes.append(f"{paper.experiment(name, small=True)}: {_describe_order(of_table)}")
    return Published(tuple(comparisons), tuple(dict.fromkeys(notes)))  # Tables may share an experiment.


def _split_settings(runs: pd.DataFrame, experiment: str) -> tuple[pd.DataFrame, list[str]]:
    """Return the runs of the experiment as it is, and a note on those that change something."""
    rows = read_protocol(experiment)
    if rows is None:
        note = f"{experiment}: {count_noun(len(runs), 'run')} of an experiment that conf/ lacks, not compared"
        return runs.iloc[:0], [note]
    deviations = [" ".join(list_deviations(run, experiment, rows)) for _, run in runs.iterrows()]
    column = pd.Series(deviations, index=runs.index, dtype=object)
    notes = [
        f"{experiment}: {count_noun(count, 'run')} of another setting, not compared: {words}"
        for words, count in column[column != ""].value_counts(sort=False).items()
    ]
    return runs[column == ""], notes


def _compare(
    paper: Paper, name: str, cell: PublishedCell, runs: pd.DataFrame, small: bool
) -> Comparison | None:
    """Compare a cell with the runs of its experiment. None if none of them matches."""
    table = paper.tables[name]
    metric = table.metric_of(cell)
    keys = cell.small if small and cell.small is not None else cell.keys
    for key, value in keys.items():
        own = runs[key].map(format_value) if key in runs else pd.Series("null", index=runs.index)
        runs = runs[own.map(lambda text, value=value: same_value(text, format_value(value))).astype(bool)]
    if metric == SOLVE_RATE:
        values = (runs["verdict"] == "solved").astype(float)
    elif metric in runs:
        values = runs[metric].astype(float).dropna()
    else:
        return None
    if values.empty:
        return None
    numbers = tuple(values)
    if small:
        return Comparison(paper, name, cell, True, numbers, None, None, "")
    rows = pd.to_numeric(runs.get("evaluation.test_samples", pd.Series(dtype=float))).dropna()
    interval, word, reason = decide(cell, str(metric), numbers, int(rows.min()) if len(rows) else 0)
    return Comparison(paper, name, cell, False, numbers, interval, word, reason)


def _describe_order(comparisons: Sequence[Comparison]) -> str:
    """Say whether the runs of a small sibling are in the order of the published values.

    A contrast is a pair of cells that differ in the task (and metric) or in all the rest, but not in both,
    and whose published values differ by more than 0.1. Its order is measured only if every seed of one cell
    is above every seed of the other, which chance must do in less than 1 of 40 cases.
    """
    small = [each for each in comparisons if each.is_small]
    counts = {"as published": 0, "reversed": 0, "cannot tell": 0}
    for first, second in combinations(small, 2):
        (task, rest), (other_task, other_rest) = map(_split_keys, (first, second))
        gap = first.cell.value - second.cell.value
        if (task == other_task) == (rest == other_rest) or abs(gap) <= _CONTRAST:
            continue
        if gap < 0:
            first, second = second, first
        if 1 / comb(len(first.values) + len(second.values), len(first.values)) > LEVEL:
            counts["cannot tell"] += 1
        elif min(first.values) > max(second.values):
            counts["as published"] += 1
        elif max(first.values) < min(second.values):
            counts["reversed"] += 1
        else:
            counts["cannot tell"] += 1
    if not any(counts.values()):
        return "no two cells with runs form a contrast"
    return "order of the contrasts: " + ", ".join(
        f"{count} {word}" for word, count in counts.items() if count
    )


def _split_keys(comparison: Comparison) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return what says which task a cell is of, with the metric, and all other keys."""
    cell = comparison.cell
    keys = cell.keys if cell.small is None else cell.small
    texts = sorted((key, format_value(value)) for key, value in keys.items())
    task = [pair for pair in texts if pair[0].split(".")[0] == "task"]
    return [*task, ("metric", comparison.metric)], [pair for pair in texts if pair not in task]
