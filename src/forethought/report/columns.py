"""The columns of the report's table, for the terminal and the page."""

from collections.abc import Callable
from statistics import median
from typing import NamedTuple

from forethought.report import wording
from forethought.report.groups import Group, values
from forethought.report.names import short
from forethought.report.seeds import quartiles


class Column(NamedTuple):
    title: str
    cell: Callable[[Group], str]
    hint: str


def _solved(group: Group) -> str:
    return f"{len(group.solved)} of {len(group.finished)}"


def _steps(group: Group) -> str:
    return wording.quartile_steps(quartiles(values(group.solved, "steps_to_solve")))


def _verdicts(group: Group) -> str:
    return ", ".join(f"{count} {verdict}" for verdict, count in group.verdicts.most_common()) or "–"


def _spread(metric: str) -> Callable[[Group], str]:
    return lambda group: wording.spread(group.values(metric))


def _parameters(group: Group) -> str:
    counts = {run.parameters for run in group.finished}
    return wording.steps(counts.pop()) if len(counts) == 1 else "–"


def _pace(group: Group) -> str:
    paces = [1000 * run.wall_seconds / run.steps for run in group.finished if run.steps]
    return f"{median(paces):.1f}" if paces else "–"


COLUMNS = (
    Column("solved", _solved, "seeds whose accuracy reached the threshold, of those that finished"),
    Column(
        "95 %",
        lambda group: wording.interval(len(group.solved), len(group.finished)),
        "Wilson interval of the solve rate",
    ),
    Column("chance", _spread("test/chance"), "accuracy of the best guesser that cannot plan"),
    Column("accuracy", _spread("test/accuracy"), "free-running: the model reads its own tokens; over seeds"),
    Column("decision", _spread("test/decision_accuracy"), "accuracy on the deciding token; over seeds"),
    Column(
        "forced",
        _spread("test/forced_local_accuracy"),
        "accuracy on every other token while the model reads the true answer; over seeds",
    ),
    Column("steps", _steps, "median steps to solve and its quartiles, over the seeds that solved it"),
    Column("verdicts", _verdicts, "solved, shortcut (Clever Hans), undertrained or partial"),
)

# What a terminal has no room for.
MORE_COLUMNS = (
    Column(
        "right hop given",
        _spread("test/given_decision_accuracy"),
        "hand the model the right decision: share of answers that then come out right",
    ),
    Column(
        "wrong hop followed",
        _spread("test/follows_wrong_decision"),
        "hand it a wrong one: share of answers that follow it",
    ),
    Column("parameters", _parameters, "trainable ones, those that only training uses included"),
    Column(
        "s per 1,000 steps",
        _pace,
        "seconds, evaluations included; median over seeds, on whatever ran beside it",
    ),
)


def metric_column(metric: str) -> Column:
    """For a metric that was asked for."""

    def cell(group: Group) -> str:
        found = quartiles(group.values(metric))
        if found is None:
            return "–"
        middle, low, high = map(wording.number, (found.median, found.low, found.high))
        return middle if low == high else f"{middle} ({low}–{high})"

    return Column(short(metric).replace("_", " "), cell, f"{metric}: median and quartiles over seeds")
