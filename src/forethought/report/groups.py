"""Runs of a sweep in groups that differ only in the seed."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from forethought.errors import InputError
from forethought.report.axes import Axes, choose_axes
from forethought.report.varying import collect_settings, find_varying_keys, format_label
from forethought.report.wording import format_value
from forethought.results import Results, read_curves

MEASURES = ("steps_to_solve", "steps", "samples_seen", "wall_seconds", "parameters")
"""Numeric fields of `Results` that can be plotted and filtered like metrics."""

Curves = dict[str, tuple[list[float], list[float]]]
"""For each column of `metrics.csv`: the steps at which the column has a value, and the values."""


@dataclass(frozen=True)
class Group:
    label: str
    varying: dict[str, Any]
    """The swept parameters and their values in this group."""
    runs: list[Results]

    @cached_property
    def finished(self) -> list[Results]:
        return [run for run in self.runs if run.status == "finished"]

    @cached_property
    def solved(self) -> list[Results]:
        return [run for run in self.finished if run.verdict == "solved"]

    @cached_property
    def unsolved(self) -> list[Results]:
        return [run for run in self.finished if run.verdict != "solved"]

    @property
    def solved_ratio(self) -> str:
        """Solved and finished seeds, as text: `2 of 3`."""
        return f"{len(self.solved)} of {len(self.finished)}"

    @property
    def verdicts(self) -> Counter[str]:
        return Counter(run.verdict or "no verdict" for run in self.finished)

    def format_level(self, key: str | None) -> str:
        """Return the value of a swept parameter as text: `null` if the group has no such parameter."""
        return format_value(self.varying.get(key) if key else None)

    def collect_values(self, metric: str) -> list[float]:
        return collect_values(self.finished, metric)

    @property
    def chance(self) -> float | None:
        return next(iter(self.collect_values("test/chance")), None)

    @property
    def decision_chance(self) -> float | None:
        return next(iter(self.collect_values("test/decision_chance")), self.chance)

    @property
    def objective(self) -> str | None:
        return self.runs[0].choices.get("objective")

    @cached_property
    def conditions(self) -> tuple[tuple[str, str], ...]:
        """All settings except the objective and its options: a fair comparison holds them fixed."""
        settings = collect_settings(self.runs[0]).items()
        return tuple(
            sorted((key, format_value(entry)) for key, entry in settings if key.split(".")[0] != "objective")
        )


def collect_values(runs: Sequence[Results], metric: str) -> list[float]:
    """Return a metric, or one of `MEASURES`, of the runs that have a value for it."""
    values = (run.metrics.get(metric, getattr(run, metric, None)) for run in runs)
    return [value for value in values if value is not None]


def strip_prefix(metrics: dict[str, float], prefix: str) -> dict[str, float]:
    """Return the metrics whose names start with a prefix, without the prefix."""
    return {name.removeprefix(prefix): x for name, x in metrics.items() if name.startswith(prefix)}


def load_curves(folder: Path, cell: str) -> Curves:
    """Load the curves of a cell from the folder of its sweep or of the run. Empty if the file is missing."""
    columns: Curves = {}
    for row in read_curves((folder / cell if (folder / cell).is_dir() else folder) / "metrics.csv"):
        for name, number in row.items():
            if name != "step":
                steps, numbers = columns.setdefault(name, ([], []))
                steps.append(row["step"])
                numbers.append(number)
    return columns


@dataclass(frozen=True)
class Sweep:
    runs: list[Results]
    keys: list[str]
    """The swept parameters."""
    groups: list[Group]
    axes: Axes
    folder: Path | None = None
    where: str | None = None
    """The filter that selected the runs."""

    @property
    def name(self) -> str:
        return self.runs[0].sweep or (self.runs[0].cell if len(self.runs) == 1 else "sweep")

    @property
    def unfinished(self) -> list[Results]:
        return [run for run in self.runs if run.status != "finished"]

    @cached_property
    def curves(self) -> dict[str, Curves]:
        """Learning curves of every run, by cell."""
        if self.folder is None:
            return {}
        return {run.cell: load_curves(self.folder, run.cell) for run in self.runs}

    def levels(self, key: str) -> list[Any]:
        """Return the ordered values of a parameter. None stands for groups without the parameter."""
        return _sort_levels(self.groups, key)

    def merge_groups(self, *keys: str | None) -> list[Group]:
        """Return a group for each combination of these parameters, over all values of other parameters."""
        return _split_runs(
            [run for group in self.groups for run in group.runs], [key for key in self.keys if key in keys]
        )

    def facets(self, *keys: str | None) -> dict[str, list[Group]]:
        """Return the groups by their label without these parameters."""
        rest = [key for key in self.keys if key not in keys]
        facets: dict[str, list[Group]] = {}
        for group in self.groups:
            facets.setdefault(format_label(group.runs[0], rest) if rest else "", []).append(group)
        return facets


def group_runs(
    runs: Sequence[Results], folder: Path | None = None, where: str | None = None, **axes: str | None
) -> Sweep:
    """Group the runs by their swept parameters and choose the axes (`choose_axes`).

    Raises:
        InputError: there are no runs, or a requested axis is unknown.
    """
    if not runs:
        raise InputError(f"{folder or 'report'}: no results; pass the folder of a sweep or of a run")
    keys = find_varying_keys(runs)
    groups = _split_runs(runs, keys)
    metrics = dict.fromkeys([*(name for run in runs for name in run.metrics), *MEASURES])
    chosen = choose_axes({key: _sort_levels(groups, key) for key in keys}, metrics, **axes)
    return Sweep(list(runs), keys, groups, chosen, folder, where)


def _split_runs(runs: Sequence[Results], keys: Sequence[str]) -> list[Group]:
    groups: dict[tuple[str, ...], Group] = {}
    for run in sorted(runs, key=lambda run: run.seed):
        varying = {key: entry for key, entry in collect_settings(run).items() if key in keys}
        levels = tuple(format_value(varying[key]) if key in varying else "" for key in keys)
        if levels not in groups:
            groups[levels] = Group(format_label(run, keys), varying, [])
        groups[levels].runs.append(run)
    return sorted(
        groups.values(), key=lambda group: [_level_sort_key(group.varying.get(key)) for key in keys]
    )


def _sort_levels(groups: Sequence[Group], key: str) -> list[Any]:
    levels = {format_value(level): level for level in (group.varying.get(key) for group in groups)}
    return sorted(levels.values(), key=_level_sort_key)


def _level_sort_key(level: Any) -> tuple[bool, float, str]:
    """Sort numbers by size, then all other values by name."""
    numeric = isinstance(level, int | float)
    return not numeric, float(level) if numeric else 0.0, format_value(level)
