"""Solve rates of a sweep as lines for W&B: a chart for each setting, a line for each objective."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from forethought.results import Results
from forethought.sweeps import NOT_IDENTITY

_BASELINE = "next_token"


def clean(text: str, length: int = 64) -> str:
    """Return a name that W&B and file systems accept: `num_nodes=null` → `num_nodes_null`."""
    return re.sub(r"[^\w.-]+", "_", text, flags=re.ASCII).strip("_")[:length]


@dataclass(frozen=True)
class SolveRates:
    """Shares of the finished seeds that solved the task.

    Args:
        x: the swept parameter of the x axis; None if no whole number is swept.
        lines: by `solve_rate_path_length_5/next_token` and by level of x; the baseline first.
    """

    x: str | None
    lines: dict[str, dict[int, float]]

    @property
    def charts(self) -> dict[str, list[str]]:
        """The names of the lines of each chart."""
        charts = defaultdict(list)
        for name in self.lines:
            charts[name.partition("/")[0]].append(name)
        return charts


def solve_rates(runs: Iterable[Results]) -> SolveRates:
    """Compute the lines. An objective that has no parameter x gets a constant line."""
    rows = [(_settings(run), run) for run in runs if run.status == "finished"]
    keys = dict.fromkeys(key for settings, _ in rows for key in settings)
    levels = {key: {str(s[key]): s[key] for s, _ in rows if key in s} for key in keys}
    whole = [key for key in keys if all(type(level) is int and level >= 0 for level in levels[key].values())]
    shared = {key: all(key in settings for settings, _ in rows) for key in keys}
    x = max(
        (key for key in whole if len(levels[key]) > 1),
        key=lambda key: (shared[key], len(levels[key])),
        default=None,
    )
    groups: dict[str, dict[int, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for settings, run in rows:
        words: dict[bool, list[str]] = {False: [], True: []}
        for key, value in settings.items():
            if (len(levels[key]) > 1 or not shared[key]) and key not in ("objective", x):
                words[key.startswith("objective.")].append(f"{key.rpartition('.')[2]}={value}")
        chart = clean("_".join(["solve_rate", *words[False]]))
        line = f"{chart}/{clean('_'.join([run.choices['objective'], *words[True]]))}"
        for level in [0] if x is None else [settings[x]] if x in settings else levels[x].values():
            groups[line][level].append(run.verdict == "solved")
    ordered = sorted(groups.items(), key=lambda item: (_BASELINE not in item[0], item[0]))
    return SolveRates(x, {line: {at: sum(by[at]) / len(by[at]) for at in sorted(by)} for line, by in ordered})


def _settings(run: Results) -> dict[str, Any]:
    """Return the settings of a run that its command line or its experiment file gives, without the seed."""
    keys = [word.lstrip("+~").partition("=")[0] for word in run.overrides]
    settings: dict[str, Any] = {"objective": run.choices["objective"]}
    for key in keys:
        if key.split(".")[0] not in NOT_IDENTITY | {"seed", "experiment"}:
            value: Any = run.config
            for part in key.split("."):
                value = (value or {}).get(part)
            settings[key] = run.choices.get(key, value)
    return settings
