"""CSV files of a report: `cells.csv` has a row for each run, `groups.csv` a row for each group."""

import csv
import io
from collections.abc import Iterable
from typing import Any

from forethought.report.groups import MEASURES, Group, Sweep, collect_values
from forethought.report.names import natural_sort_key
from forethought.report.seeds import quartiles, wilson
from forethought.report.varying import flatten_config
from forethought.report.wording import format_value
from forethought.results import Results


def format_cells_csv(sweep: Sweep) -> str:
    """Return the text of `cells.csv`. Missing values are empty."""
    records = [build_record(run, group.label) for group in sweep.groups for run in group.runs]
    metrics = {name for run in sweep.runs for name in run.metrics}
    columns = dict.fromkeys(key for record in records for key in record if key not in metrics)
    return _format_csv([*columns, *sorted(metrics, key=natural_sort_key)], records)


def build_record(run: Results, group_label: str) -> dict[str, Any]:
    """Return a run's identity, choices, measures, config (dotted keys) and metrics."""
    record = {
        "cell": run.cell,
        "sweep": run.sweep,
        "group": group_label,
        "status": run.status,
        "verdict": run.verdict,
        "reason": run.reason,
        "seed": run.seed,
        **run.choices,
        "overrides": " ".join(run.overrides),
        "device": run.device,
        **{name: getattr(run, name) for name in MEASURES},
    }
    # The second `record` wins over config keys of the same name (seed, sweep); the first sets the order.
    return record | flatten_config(run.config) | record | run.metrics


def format_groups_csv(sweep: Sweep) -> str:
    """Return the text of `groups.csv`: parameters, solve rate with its Wilson interval, quartiles."""
    metrics = list(dict.fromkeys(filter(None, ("test/accuracy", sweep.axes.metric))))
    records = [_build_group_record(group, metrics) for group in sweep.groups]
    columns = ["group", *sweep.keys, *(key for record in records for key in record)]
    return _format_csv(dict.fromkeys(columns), records)


def _build_group_record(group: Group, metrics: list[str]) -> dict[str, Any]:
    solved, seeds = len(group.solved), len(group.finished)
    record: dict[str, Any] = {"group": group.label, **group.varying}
    record |= {"runs": len(group.runs), "finished": seeds, "solved": solved}
    if seeds:
        low, high = wilson(solved, seeds)
        record |= {"solve_rate": solved / seeds, "solve_rate_low": low, "solve_rate_high": high}
    samples = {"steps_to_solve": collect_values(group.solved, "steps_to_solve")}
    samples |= {metric: group.collect_values(metric) for metric in metrics}
    for name, numbers in samples.items():
        if summary := quartiles(numbers):
            low, middle, high = summary
            record |= {f"{name}_q1": low, f"{name}_median": middle, f"{name}_q3": high}
    return record


def _format_csv(columns: Iterable[str], records: Iterable[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    writer.writeheader()
    for record in records:
        writer.writerow({key: format_value(entry) for key, entry in record.items() if entry is not None})
    return text.getvalue()
