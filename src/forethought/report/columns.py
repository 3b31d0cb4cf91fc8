"""Columns of the report's tables: on the terminal, on the page and in LaTeX."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from forethought.report.names import shorten_name
from forethought.report.regime import is_decaying
from forethought.report.settings import Row
from forethought.report.summary import VERDICT_COUNTS
from forethought.report.wording import (
    format_count,
    format_flops,
    format_interval,
    format_number,
    format_quartiles,
    format_range,
)


class Column(NamedTuple):
    title: str
    hint: str
    format: Callable[[Row], str]
    """Text for a row of `summarise_runs`."""


def range_over_seeds(row: Row, metric: str) -> str:
    return format_range(row[name] for name in (f"{metric}_min", f"{metric}_max") if name in row)


def _range(title: str, metric: str, hint: str) -> Column:
    return Column(title, hint, lambda row: range_over_seeds(row, f"test/{metric}"))


def _quartiles(title: str, metric: str, hint: str, format: Callable[[float], str]) -> Column:
    names = (f"{metric}_q1", f"{metric}_median", f"{metric}_q3")
    return Column(title, hint, lambda row: format_quartiles([row[name] for name in names], format))


def _format_solved(row: Row) -> str:
    return f"{row['solved']} of {row['finished']}"


def _format_verdicts(row: Row) -> str:
    counts = sorted(((row[name], name) for name in VERDICT_COUNTS if row[name]), key=lambda pair: -pair[0])
    texts = ", ".join(f"{count} {name.replace('_', ' ')}" for count, name in counts)
    moving = row.get("still_moving", 0)
    return (texts or "–") + f" ({moving} still moving)" * bool(moving)


def _format_parameters(row: Row) -> str:
    return format_count(row["parameters_min"]) if row["parameters_min"] == row["parameters_max"] else "–"


def _format_pace(row: Row) -> str:
    return f"{row['seconds_per_1000_steps_median']:.1f}".replace("nan", "–")


COLUMNS = (
    Column(
        "solved",
        "seeds whose accuracy (or relative creativity) reached the threshold, of the finished seeds",
        _format_solved,
    ),
    Column(
        "95 %",
        "Wilson interval of the solve rate",
        lambda row: format_interval(row["solved"], row["finished"]),
    ),
    _range("chance", "chance", "accuracy of the best policy that cannot plan"),
    _range("accuracy", "accuracy", "free-running: the model reads its own tokens; over seeds"),
    _range("decision", "decision_accuracy", "accuracy on the decision token; over seeds"),
    _range(
        "forced",
        "forced_local_accuracy",
        "accuracy on all other tokens after the true answer so far; over seeds",
    ),
    _quartiles(
        "steps", "steps_to_solve", "steps to solve: median and quartiles over solved seeds", format_count
    ),
    _quartiles(
        "FLOPs",
        "flops_to_solve",
        "floating-point operations of training up to there: compare objectives that differ in cost by these",
        format_flops,
    ),
    Column(
        "verdicts",
        "solved, shortcut (Clever Hans), guessing, undertrained or partial; still moving: unsolved, and "
        "validation accuracy rose in the last tenth of the evaluations",
        _format_verdicts,
    ),
)

MORE_COLUMNS = (
    _range(
        "right hop given", "given_decision_accuracy", "right answers if the model is given the right decision"
    ),
    _range(
        "wrong hop followed", "follows_wrong_decision", "answers that follow a wrong decision that is given"
    ),
    _quartiles(
        "seconds",
        "seconds_to_solve",
        "of training up to there, with evaluations; a busy machine is slower",
        format_number,
    ),
    Column("parameters", "trainable, including those used only during training", _format_parameters),
    Column(
        "s per 1,000 steps", "with evaluations; median over seeds; a busy machine is slower", _format_pace
    ),
)
"""Columns of the page only: the terminal is too narrow for them."""


_CREATIVITY = _range(
    "creativity", "creativity", "different right answers that training did not show, of all; over seeds"
)


_REGIME_COLUMNS = {
    "optimizer.schedule": Column(
        "schedule", "of the learning rate after the warm-up", lambda row: row["schedule"] or "–"
    ),
    "task.train_samples": Column(
        "data",
        "training rows: fresh at every step, or a fixed number",
        lambda row: row["data"] or "–",
    ),
}
"""Columns by the swept parameter that would have the same values."""


def list_columns(rows: Sequence[Row]) -> list[Column]:
    """Return the columns of all tables; on open-ended tasks, creativity in place of forced accuracy.

    Schedule and data come first where they vary without being swept, as an objective may bring its own, and
    where a run ends unsolved under a decaying rate.
    """
    doubtful = any(may_be_schedule(row) for row in rows)
    regime = [
        column
        for key, column in _REGIME_COLUMNS.items()
        if rows and key not in rows[0] and (doubtful or len({column.format(row) for row in rows}) > 1)
    ]
    if all(_CREATIVITY.format(row) == "–" for row in rows):
        return [*regime, *COLUMNS]
    return [*regime, *(_CREATIVITY if column.title == "forced" else column for column in COLUMNS)]


def may_be_schedule(row: Row) -> bool:
    """Return True if runs ended unsolved under a decaying rate, which may have cut a late solution off."""
    return row["solved"] < row["finished"] and is_decaying(row["schedule"])


def build_metric_column(metric: str) -> Column:
    """Return the column of the metric requested with `--metric`."""
    title, hint = shorten_name(metric).replace("_", " "), f"{metric}: median and quartiles over seeds"
    return _quartiles(title, metric, hint, format_number)
