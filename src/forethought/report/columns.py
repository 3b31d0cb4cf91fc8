"""Columns of the report's tables: on the terminal, on the page and in LaTeX."""

from collections.abc import Callable
from typing import NamedTuple

from forethought.report.names import shorten_name
from forethought.report.settings import Row
from forethought.report.summary import VERDICT_COUNTS
from forethought.report.wording import (
    format_count,
    format_interval,
    format_number,
    format_quartiles,
    format_range,
)


class Column(NamedTuple):
    title: str
    format: Callable[[Row], str]
    hint: str


def _format_verdicts(row: Row) -> str:
    counts = sorted(((row[name], name) for name in VERDICT_COUNTS if row[name]), key=lambda entry: -entry[0])
    return ", ".join(f"{count} {name.replace('_', ' ')}" for count, name in counts) or "–"


def range_over_seeds(row: Row, metric: str) -> str:
    return format_range(row[name] for name in (f"{metric}_min", f"{metric}_max") if name in row)


def _range_of(metric: str) -> Callable[[Row], str]:
    return lambda row: range_over_seeds(row, metric)


def _quartiles_of(metric: str, format: Callable[[float], str]) -> Callable[[Row], str]:
    names = (f"{metric}_q1", f"{metric}_median", f"{metric}_q3")
    return lambda row: format_quartiles(tuple(row[name] for name in names), format)


def _format_parameters(row: Row) -> str:
    return format_count(row["parameters_min"]) if row["parameters_min"] == row["parameters_max"] else "–"


def _format_pace(row: Row) -> str:
    return f"{row['seconds_per_1000_steps_median']:.1f}".replace("nan", "–")


COLUMNS = (
    Column(
        "solved",
        lambda row: f"{row['solved']} of {row['finished']}",
        "seeds whose accuracy reached the threshold, of the finished seeds",
    ),
    Column(
        "95 %",
        lambda row: format_interval(row["solved"], row["finished"]),
        "Wilson interval of the solve rate",
    ),
    Column("chance", _range_of("test/chance"), "accuracy of the best policy that cannot plan"),
    Column(
        "accuracy", _range_of("test/accuracy"), "free-running: the model reads its own tokens; over seeds"
    ),
    Column("decision", _range_of("test/decision_accuracy"), "accuracy on the decision token; over seeds"),
    Column(
        "forced",
        _range_of("test/forced_local_accuracy"),
        "accuracy on all other tokens while the model reads the true answer; over seeds",
    ),
    Column(
        "steps",
        _quartiles_of("steps_to_solve", format_count),
        "steps to solve: median and quartiles over the seeds that solved the task",
    ),
    Column("verdicts", _format_verdicts, "solved, shortcut (Clever Hans), undertrained or partial"),
)

MORE_COLUMNS = (
    Column(
        "right hop given",
        _range_of("test/given_decision_accuracy"),
        "share of answers that are right if the model is given the right decision",
    ),
    Column(
        "wrong hop followed",
        _range_of("test/follows_wrong_decision"),
        "share of answers that follow a wrong decision that the model is given",
    ),
    Column(
        "parameters", _format_parameters, "trainable parameters, including those used only during training"
    ),
    Column(
        "s per 1,000 steps",
        _format_pace,
        "seconds, including evaluations; median over seeds; other processes on the machine slow it down",
    ),
)
"""Columns of the page only: the terminal is too narrow for them."""


def build_metric_column(metric: str) -> Column:
    """Return the column of the metric requested with `--metric`."""
    return Column(
        shorten_name(metric).replace("_", " "),
        _quartiles_of(metric, format_number),
        f"{metric}: median and quartiles over seeds",
    )
