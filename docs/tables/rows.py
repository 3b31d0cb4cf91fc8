"""A declared table, and the runs of each of its rows."""

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from forethought import load_sweep
from forethought.report.names import resolve_name
from forethought.results.columns import OBJECTS
from forethought.results.frame import format_value

RESULTS = Path(__file__).parents[1] / "results"

Column = Callable[[pd.DataFrame], str]
"""Text of a column for the runs of a row, which are sorted by seed."""


class Row(NamedTuple):
    title: str
    """Text of the first columns, separated by ` | `."""
    where: str | None = None
    """Filter of the runs, `KEY=VALUE and KEY=VALUE`, with full or last names. None: all runs of the file."""
    file: str | None = None
    """Another file than that of the table."""
    columns: Mapping[str, Column] = {}
    """Columns of this row that differ from the table's."""


class Table(NamedTuple):
    file: str
    """Name in results/, without `.csv`."""
    title: str
    """Titles of the first columns, separated by ` | `."""
    rows: list[Row]
    columns: Mapping[str, Column]


@cache
def load(file: str) -> pd.DataFrame:
    path = RESULTS / f"{file}.csv"
    return pd.read_csv(path) if has_evaluations(file) else load_sweep(path)


def has_evaluations(file: str) -> bool:
    """Return True for a file with a row for each evaluation of a run, which is no file of runs."""
    return file.endswith("_decodings")


@cache
def format_settings(file: str) -> dict[str, pd.Series]:
    """Return the columns of `load` but the metrics, as text."""
    columns = load(file).drop(columns=[*OBJECTS], errors="ignore").items()
    return {name: column.map(format_value) for name, column in columns if "/" not in name}


@cache
def select(file: str, where: str | None) -> pd.DataFrame:
    """Return the runs of a row, sorted by seed.

    Raises:
        InputError: a key is unknown.
        LookupError: no run matches.
        ValueError: several runs have the same seed: the filter mixes settings.
    """
    runs, texts = load(file), format_settings(file)
    matches = pd.Series(True, runs.index)
    for condition in where.split(" and ") if where else ():
        key, value = condition.split("=", 1)
        matches &= texts[resolve_name(key, texts, where or "", "column")] == value
    runs = runs[matches].sort_values("seed")
    of_one_run = ["seed", "overrides"] if has_evaluations(file) else ["seed"]
    if runs.empty:
        raise LookupError(f"{file}, {where or 'all'}: no run; correct the filter")
    if runs.duplicated(of_one_run).any():
        raise ValueError(f"{file}, {where or 'all'}: several runs of a seed; filter one setting")
    return runs
