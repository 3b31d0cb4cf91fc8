"""A sweep as the report sees it: its runs in groups that differ only in the seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from forethought.errors import InputError
from forethought.report.axes import Axes, choose
from forethought.report.curves import Curves, curves
from forethought.report.varying import label, settings, varying
from forethought.report.wording import value
from forethought.results import Results

# What can be measured of a run besides its metrics.
NUMBERS = ("steps_to_solve", "steps", "samples_seen", "wall_seconds", "parameters")


@dataclass(frozen=True)
class Group:
    label: str
    settings: dict[str, Any]
    """The varying parameters and their values here."""
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
    def verdicts(self) -> Counter[str]:
        return Counter(run.verdict or "no verdict" for run in self.finished)

    def values(self, metric: str) -> list[float]:
        return values(self.finished, metric)

    def one(self, metric: str) -> float | None:
        """A metric that is the same for all seeds, such as chance."""
        return next(iter(self.values(metric)), None)

    @property
    def decision_chance(self) -> float | None:
        chance = self.one("test/decision_chance")
        return self.one("test/chance") if chance is None else chance

    @property
    def objective(self) -> str | None:
        return self.runs[0].choices.get("objective")

    @cached_property
    def conditions(self) -> tuple[tuple[str, str], ...]:
        """All settings but the objective and its own: what a fair comparison of objectives holds fixed."""
        same = settings(self.runs[0]).items()
        return tuple(sorted((key, value(entry)) for key, entry in same if key.split(".")[0] != "objective"))


def values(runs: Sequence[Results], metric: str) -> list[float]:
    """A metric, or a count such as `steps_to_solve`, of the runs that have it."""
    found = (run.metrics.get(metric, getattr(run, metric, None)) for run in runs)
    return [number for number in found if number is not None]


@dataclass(frozen=True)
class Sweep:
    runs: list[Results]
    keys: list[str]
    """The varying parameters."""
    groups: list[Group]
    axes: Axes
    folder: Path | None = None
    where: str | None = None
    """The filter that left these runs."""

    @property
    def name(self) -> str:
        return self.runs[0].sweep or (self.runs[0].cell if len(self.runs) == 1 else "sweep")

    @property
    def unfinished(self) -> list[Results]:
        return [run for run in self.runs if run.status != "finished"]

    @cached_property
    def curves(self) -> dict[str, Curves]:
        """The learning curves of every run, by cell."""
        if self.folder is None:
            return {}
        return {run.cell: curves(self.folder, run.cell) for run in self.runs}

    def levels(self, key: str) -> list[Any]:
        """The values of a parameter in order; None stands for groups that have it not."""
        return _levels(self.groups, key)

    def merged(self, *keys: str | None) -> list[Group]:
        """One group for each combination of these parameters, over all values of the others."""
        kept = [key for key in self.keys if key in keys]
        return _grouped([run for group in self.groups for run in group.runs], kept)


def group(
    runs: Sequence[Results], folder: Path | None = None, where: str | None = None, **asked: str | None
) -> Sweep:
    """Sort the runs into groups, in the order of their parameters, and choose the axes (`axes.choose`).

    Raises:
        InputError: there are no runs, or no such axes.
    """
    if not runs:
        raise InputError(f"{folder or 'report'}: no results yet; expected the folder of a sweep or of a run")
    keys = varying(runs)
    groups = _grouped(runs, keys)
    numbers = dict.fromkeys([*(name for run in runs for name in run.metrics), *NUMBERS])
    axes = choose({key: _levels(groups, key) for key in keys}, numbers, **asked)
    return Sweep(list(runs), keys, groups, axes, folder, where)


def _grouped(runs: Sequence[Results], keys: Sequence[str]) -> list[Group]:
    members: dict[tuple[str, ...], list[Results]] = {}
    for run in sorted(runs, key=lambda run: run.seed):
        row = settings(run)
        members.setdefault(tuple(value(row[key]) if key in row else "" for key in keys), []).append(run)
    groups = [
        Group(label(same[0], keys), {k: v for k, v in settings(same[0]).items() if k in keys}, same)
        for same in members.values()
    ]
    return sorted(groups, key=lambda group: [_order(group.settings.get(key)) for key in keys])


def _levels(groups: Sequence[Group], key: str) -> list[Any]:
    found = {value(entry): entry for entry in (group.settings.get(key) for group in groups)}
    return sorted(found.values(), key=_order)


def _order(entry: Any) -> tuple[bool, float, str]:
    """Numbers by size, then everything else by name."""
    number = isinstance(entry, int | float)
    return not number, float(entry) if number else 0.0, value(entry)
