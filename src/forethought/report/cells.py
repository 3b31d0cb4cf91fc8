"""`cells.csv`: one row for each run, for pandas or a spreadsheet."""

import csv
import io
import re
from typing import Any

from forethought.report.groups import NUMBERS, Sweep
from forethought.report.varying import flatten
from forethought.report.wording import value
from forethought.results import Results


def records(sweep: Sweep) -> list[tuple[Results, dict[str, Any]]]:
    """Each run with its row: identity, choices, counts, config (dotted keys), metrics."""
    return [(run, _record(run, group.label)) for group in sweep.groups for run in group.runs]


def _record(run: Results, label: str) -> dict[str, Any]:
    row = {
        "cell": run.cell,
        "sweep": run.sweep,
        "group": label,
        "status": run.status,
        "verdict": run.verdict,
        "reason": run.reason,
        "seed": run.seed,
        **run.choices,
        "overrides": " ".join(run.overrides),
        "device": run.device,
        **{name: getattr(run, name) for name in NUMBERS},
    }
    # The config repeats a few of these (seed, sweep).
    return row | {key: entry for key, entry in flatten(run.config).items() if key not in row} | run.metrics


def cells_csv(sweep: Sweep) -> str:
    """The file's text. Empty = not there."""
    rows = [row for _, row in records(sweep)]
    metrics = {key for run in sweep.runs for key in run.metrics}
    columns = dict.fromkeys(key for row in rows for key in row if key not in metrics)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    header = [*columns, *sorted(metrics, key=_natural)]
    writer.writerow(header)
    writer.writerows(["" if row.get(key) is None else value(row[key]) for key in header] for row in rows)
    return text.getvalue()


def _natural(name: str) -> list[tuple[int, str]]:
    """`token_accuracy_10` after `token_accuracy_9`."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]
