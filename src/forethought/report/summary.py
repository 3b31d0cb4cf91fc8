"""`groups.csv`: one row for each group of runs that differ only in the seed."""

import csv
import io
from typing import Any

from forethought.report.groups import Group, Sweep, values
from forethought.report.seeds import quartiles, wilson
from forethought.report.wording import value


def groups_csv(sweep: Sweep) -> str:
    """The file's text: parameters, solve rate with its Wilson interval, quartiles. Empty = not there."""
    metrics = list(dict.fromkeys(filter(None, ("test/accuracy", sweep.axes.metric))))
    rows = [_row(group, metrics) for group in sweep.groups]
    text = io.StringIO()
    columns = ["group", *sweep.keys, *dict.fromkeys(key for row in rows for key in row)]
    writer = csv.DictWriter(text, list(dict.fromkeys(columns)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _row(group: Group, metrics: list[str]) -> dict[str, Any]:
    solved, seeds = len(group.solved), len(group.finished)
    row: dict[str, Any] = {"group": group.label}
    row |= {key: "" if entry is None else value(entry) for key, entry in group.settings.items()}
    row |= {"runs": len(group.runs), "finished": seeds, "solved": solved}
    if seeds:
        low, high = wilson(solved, seeds)
        row |= {"solve_rate": solved / seeds, "solve_rate_low": low, "solve_rate_high": high}
    samples = {"steps_to_solve": values(group.solved, "steps_to_solve")}
    samples |= {metric: group.values(metric) for metric in metrics}
    for name, numbers in samples.items():
        if found := quartiles(numbers):
            row |= {f"{name}_q1": found.low, f"{name}_median": found.median, f"{name}_q3": found.high}
    return row
