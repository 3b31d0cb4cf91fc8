"""A declared table, and the runs of each of its rows."""

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from forethought import load_sweep
from forethought.report.where import select_runs

RESULTS = Path(__file__).parents[1] / "results"

Column = Callable[[pd.DataFrame], str]
"""Text of a column for the runs of a row, which are sorted by seed."""


class Row(NamedTuple):
    title: str
    """Text of the first columns, separated by ` | `."""
    where: str | None = None
    """Filter of the runs, as in `forethought report --where`. None: all runs of the file."""
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
def select(file: str, where: str | None) -> pd.DataFrame:
    """Return the runs of a row, sorted by seed.

    Raises:
        ValueError: several runs have the same seed: the filter mixes settings.
    """
    runs = load(file)
    runs = (runs if where is None else select_runs(runs, where)).sort_values("seed")
    if runs.duplicated(["seed", "overrides"] if has_evaluations(file) else "seed").any():
        raise ValueError(
            f"{file}, {where or 'all'}: several runs of a seed; expected a filter of one setting"
        )
    return runs
