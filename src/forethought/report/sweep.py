"""The runs of a report, with what varies between them."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from forethought.errors import InputError
from forethought.report.axes import Axes, choose_axes
from forethought.report.objectives import order_objectives
from forethought.report.published import Published, compare_published
from forethought.report.settings import (
    Row,
    find_varying_keys,
    format_label,
    list_choice_columns,
    list_metric_columns,
)
from forethought.report.still_moving import find_still_moving
from forethought.report.summary import summarise_runs
from forethought.report.where import select_runs
from forethought.report.wording import is_number
from forethought.results import MEASURES
from forethought.results.frame import format_value, load_curves


@dataclass(frozen=True, eq=False)
class Sweep:
    runs: pd.DataFrame
    """The DataFrame of `load_sweep`, with an ordered categorical column `setting`: the label of all settings
    but the seed. Sorted by setting and seed."""
    keys: list[str]
    """The swept parameters: columns whose values differ between settings."""
    axes: Axes
    where: str | None = None
    """The filter that selected the runs."""
    loaded_curves: pd.DataFrame | None = None
    """Curves of the runs; None if a file of curves is corrupt, which `curves` then raises."""

    @property
    def name(self) -> str:
        names = self.runs["sweep"].dropna().unique()
        return ", ".join(names) or (self.runs["cell"].iloc[0] if len(self.runs) == 1 else "sweep")

    @property
    def finished(self) -> pd.DataFrame:
        return self.runs[self.runs["status"] == "finished"]

    @property
    def unfinished(self) -> pd.DataFrame:
        return self.runs[self.runs["status"] != "finished"]

    @cached_property
    def summary(self) -> pd.DataFrame:
        """A row for each setting: its label, the swept parameters, and the columns of `summarise_runs`."""
        return summarise_runs(self.runs, ["setting", *self.keys])

    def summarise_by(self, *keys: str | None) -> pd.DataFrame:
        """Summarise the runs that agree in some swept parameters, over all others, as in `summary`."""
        present, runs = [key for key in self.keys if key in keys], self.runs
        if present:
            runs = runs.sort_values(
                present, key=lambda column: _rank_levels(runs, column.name), kind="stable"
            )
        table, choices = summarise_runs(runs, present), list_choice_columns(runs)
        labels = [format_label(row, present, choices) or "all runs" for row in table.to_dict("records")]
        return table.assign(setting=labels)

    @cached_property
    def curves(self) -> pd.DataFrame:
        """The curves of all runs (`load_curves`) with the columns `setting` and `seed`."""
        curves = load_curves(self.runs) if self.loaded_curves is None else self.loaded_curves
        return curves.merge(self.runs[["folder", "setting", "seed"]], on="folder")

    @cached_property
    def published(self) -> Published:
        """The published numbers beside those of the runs that match them."""
        return compare_published(self.runs)

    def levels(self, key: str) -> list[Any]:
        """Return the ordered values of a parameter, without missing ones."""
        return _sort_levels(self.runs, key)

    def label(self, values: Row, without: Iterable[str | None] = ()) -> str:
        """Return the label of the swept parameters in a row of `runs` or `summary`; empty if none is left.

        Args:
            without: keys to omit.
        """
        keys = [key for key in self.keys if key not in {*without}]
        return format_label(values, keys, list_choice_columns(self.runs))


def build_sweep(frame: pd.DataFrame, where: str | None = None, **axes: str | None) -> Sweep:
    """Sort the runs of `load_sweep` by their settings and choose the axes (`choose_axes`).

    Args:
        where: filter of the runs.
        axes: requested names for x, y, hue and metric.

    Raises:
        InputError: there are no runs, or the filter or an axis is invalid.
    """
    if frame.empty:
        raise InputError("report: no runs; pass the folder of a sweep or of a run, or a CSV file of runs")
    runs, keys = _sort_runs(frame)
    curves = None
    with suppress(InputError):  # The plot of the curves says which file is corrupt.
        curves = load_curves(runs)
        moving = find_still_moving(runs, curves)
        if moving.notna().any():
            runs.insert(runs.columns.get_loc("verdict") + 1, "still_moving", moving)
    if where is not None:
        runs, keys = _sort_runs(select_runs(runs, where).drop(columns="setting"))
    levels = {key: _sort_levels(runs, key) + [None] * int(runs[key].isna().any()) for key in keys}
    axes_of_plots = choose_axes(levels, [*list_metric_columns(runs), *MEASURES], **axes)
    return Sweep(runs, keys, axes_of_plots, where, curves)


def _sort_runs(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Return the runs with the column `setting`, sorted, and the swept parameters."""
    runs = frame.copy()
    keys = find_varying_keys(runs)
    if runs["cell"].duplicated().any():
        if runs.duplicated(["sweep", "cell"]).any():  # sweeps of the same name
            folders = runs["folder"].map(lambda folder: str(Path(folder).parent), na_action="ignore")
            runs["sweep"] = folders.fillna(runs["sweep"])  # a run of a CSV file has no folder
        keys = ["sweep", *keys]
    ranks = pd.DataFrame({key: _rank_levels(runs, key) for key in keys}, index=runs.index)
    order = ranks.assign(_seed=runs["seed"]).sort_values([*keys, "_seed"], kind="stable").index
    runs, ranks = runs.loc[order], ranks.loc[order]
    numbers = ranks.groupby(keys, sort=False).ngroup() if keys else pd.Series(0, index=order)
    settings = runs[~numbers.duplicated()].to_dict("records")
    choices = list_choice_columns(runs)
    labels = [
        format_label(values, keys, choices) or str(values.get("objective", "all runs")) for values in settings
    ]
    if len({*labels}) < len(labels):  # Some differ only in a flag that is off and a missing value.
        labels = [format_label(values, keys, choices, complete=True) for values in settings]
    runs.insert(2, "setting", pd.Categorical.from_codes(numbers, labels, ordered=True))
    return runs.reset_index(drop=True), keys


def _sort_levels(runs: pd.DataFrame, key: str) -> list[Any]:
    """Return the values: sweeps as given, objectives by what they reached, then numbers, then names."""
    levels = runs[key].dropna().drop_duplicates().tolist()
    if key == "sweep":
        return levels
    if key == "objective":
        return order_objectives(runs)
    return sorted(levels, key=lambda x: (0, x, "") if is_number(x) else (1, 0, format_value(x)))


def _rank_levels(runs: pd.DataFrame, key: str) -> pd.Series:
    """Number the values of a parameter in their order. Missing values get -1."""
    ranks = {format_value(level): rank for rank, level in enumerate(_sort_levels(runs, key))}
    return runs[key].map(format_value).map(ranks).fillna(-1)
