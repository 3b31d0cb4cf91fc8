"""Paired comparison of the levels of each swept parameter over the same seeds."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import pandas as pd

from forethought.report.names import shorten_name
from forethought.report.seeds import holm, mcnemar
from forethought.report.settings import format_label, list_choice_columns, list_conditions
from forethought.report.sweep import Sweep
from forethought.report.wording import format_p_value
from forethought.results.frame import format_value

_COUNTS = {
    "both": (True, True),
    "only_level": (True, False),
    "only_baseline": (False, True),
    "neither": (False, False),
}
"""Columns of counts of pairs, by whether the level and whether the baseline solved the task."""
_COLUMNS = ("parameter", "level", "baseline", "pairs", *_COUNTS, "p", "p_holm")
_MOST_LEVELS = 24  # A parameter with more values is a measurement, not a choice.

PAIR_TITLES = ("pairs", "both", "1st only", "2nd only", "neither", "p", "p, Holm")
PAIR_CAPTION = (
    "First / second: pairs of finished runs that share the seed and all other settings. An objective "
    "is compared together with its own options. p: exact two-sided McNemar test on the pairs in which only "
    "one of the two runs solved the task. Pairs count as independent. p < 0.05 requires at least six such "
    "pairs, all in favour of the same side. Holm: p adjusted for all comparisons of the same parameter."
)


@lru_cache(maxsize=1)  # the terminal, the page and a file show the same sweep
def compare_levels(sweep: Sweep) -> pd.DataFrame:
    """Compare each level of each swept parameter with the parameter's first level.

    The first level is `next_token`, `false` or the smallest number. For the objective, each value of a swept
    option of an objective counts as a level. Comparisons without a common pair are omitted.
    """
    rows = [row for key in sweep.keys for row in _compare(sweep, key)]
    return pd.DataFrame(rows, columns=[*_COLUMNS])


def _compare(sweep: Sweep, key: str) -> Iterator[list[Any]]:
    """Yield a row for each level of a parameter that shares pairs with the first level."""
    runs = sweep.finished
    names, levels = runs[key].map(format_value), [*map(format_value, sweep.levels(key)), "null"]
    if key == "objective":
        own, choices = [name for name in sweep.keys if name.split(".")[0] == key], list_choice_columns(runs)
        names = runs[own].apply(lambda values: format_label(values, own, choices), axis=1)
        levels = list(names.drop_duplicates())
    shared = [*list_conditions(runs, sweep.keys, key), "seed"]
    table = runs[shared].map(format_value).assign(level=names, solved=runs["verdict"] == "solved")
    table = table.drop_duplicates([*shared, "level"])
    baseline = table[table["level"] == levels[0]].drop(columns="level") if levels else table
    comparisons: list[list[Any]] = []
    for level in levels[1:] if len(levels) <= _MOST_LEVELS else ():
        pairs = table[table["level"] == level].merge(baseline, on=shared, suffixes=("", "_baseline"))
        outcomes = pairs.groupby(["solved", "solved_baseline"]).size()
        counts = {name: int(outcomes.get(outcome, 0)) for name, outcome in _COUNTS.items()}
        if len(pairs):
            p = mcnemar(counts["only_level"], counts["only_baseline"])
            comparisons.append([key, level, levels[0], len(pairs), *counts.values(), p])
    for row, adjusted in zip(comparisons, holm([row[-1] for row in comparisons]), strict=True):
        yield [*row, adjusted]


def tabulate_comparisons(comparisons: pd.DataFrame) -> list[list[str]]:
    """Return a row of text for each comparison: its name, and a column for each of `PAIR_TITLES`."""
    rows = []
    for _, row in comparisons.iterrows():
        key = "" if row["parameter"] == "objective" else f"{shorten_name(row['parameter'])}: "
        counts = [str(row[name]) for name in ("pairs", *_COUNTS)]
        ps = [format_p_value(row[name]) for name in ("p", "p_holm")]
        rows.append([f"{key}{row['level']} / {row['baseline']}", *counts, *ps])
    return rows
