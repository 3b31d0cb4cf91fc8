"""Solve rates of a sweep as lines for W&B: a chart for each setting, a line for each objective."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from forethought.loggers.wandb_names import clean
from forethought.report import Sweep
from forethought.report.wording import is_number


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


def solve_rates(sweep: Sweep) -> SolveRates:
    """Compute the lines. An objective that has no parameter x gets a constant line."""
    x = _choose_x(sweep)
    own = [key for key in sweep.keys if key.split(".")[0] == "objective"]
    others = [key for key in sweep.keys if key not in own]
    lines: dict[str, dict[int, float]] = defaultdict(dict)
    for row in sweep.summary[sweep.summary["finished"] > 0].to_dict("records"):
        objective = "" if "objective" in own else f"{sweep.runs['objective'].iloc[0]} "
        chart = clean(f"solve_rate {sweep.label(row, without=[*own, x])}")
        line = clean(f"{objective}{sweep.label(row, without=[*others, x])}")
        for level in [0] if x is None else [row[x]] if is_number(row[x]) else sweep.levels(x):
            lines[f"{chart}/{line}"][int(level)] = row["solve_rate"]
    return SolveRates(x, dict(lines))


def _choose_x(sweep: Sweep) -> str | None:
    """Return the whole number with the most levels, if possible one that all runs have: W&B's steps."""
    whole = [
        key for key in sweep.keys if all(is_number(x) and x >= 0 and x == int(x) for x in sweep.levels(key))
    ]
    return max(whole, key=lambda key: (sweep.runs[key].notna().all(), len(sweep.levels(key))), default=None)
