"""Columns of the report's table, on the terminal and on the page."""

from collections.abc import Callable
from statistics import median
from typing import NamedTuple

from forethought.report.groups import Group, collect_values
from forethought.report.names import shorten_name
from forethought.report.seeds import quartiles
from forethought.report.wording import (
    format_count,
    format_interval,
    format_number,
    format_quartiles,
    format_range,
)


class Column(NamedTuple):
    title: str
    format: Callable[[Group], str]
    hint: str


def _format_steps(group: Group) -> str:
    return format_quartiles(quartiles(collect_values(group.solved, "steps_to_solve")), format_count)


def _format_verdicts(group: Group) -> str:
    return ", ".join(f"{count} {verdict}" for verdict, count in group.verdicts.most_common()) or "–"


def _range_of(metric: str) -> Callable[[Group], str]:
    return lambda group: format_range(group.collect_values(metric))


def _format_parameters(group: Group) -> str:
    counts = {run.parameters for run in group.finished}
    return format_count(counts.pop()) if len(counts) == 1 else "–"


def _format_pace(group: Group) -> str:
    paces = [1000 * run.wall_seconds / run.steps for run in group.finished if run.steps]
    return f"{median(paces):.1f}" if paces else "–"


COLUMNS = (
    Column(
        "solved",
        lambda group: group.solved_ratio,
        "seeds whose accuracy reached the threshold, of the finished seeds",
    ),
    Column(
        "95 %",
        lambda group: format_interval(len(group.solved), len(group.finished)),
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
        "steps", _format_steps, "steps to solve: median and quartiles over the seeds that solved the task"
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
        lambda group: format_quartiles(quartiles(group.collect_values(metric)), format_number),
        f"{metric}: median and quartiles over seeds",
    )
