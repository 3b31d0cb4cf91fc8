"""Sentences about the outcome of each setting."""

import pandas as pd

from forethought.report.columns import may_be_schedule, range_over_seeds
from forethought.report.settings import Row
from forethought.report.summary import VERDICT_COUNTS, summarise_runs
from forethought.report.sweep import Sweep
from forethought.report.wording import format_count, format_share, is_number


def describe_settings(sweep: Sweep) -> dict[str, str]:
    """Return a sentence for each setting, by its label.

    Example: `0 of 2 solved; teacher-forced later tokens 99.9 %, …: the Clever Hans shortcut`.
    """
    unsolved = summarise_runs(sweep.finished[sweep.finished["verdict"] != "solved"], ["setting"])
    rest = unsolved.set_index("setting").to_dict("index")
    rows = sweep.summary.to_dict("records")
    return {row["setting"]: _describe(row, rest.get(row["setting"])) for row in rows}


def _describe(row: Row, unsolved: Row | None) -> str:
    if not row["finished"]:
        return f"none of {row['runs']} runs finished" if row["runs"] > 1 else "the run did not finish"
    parts = [_describe_solved(row), _describe_accuracy(row, unsolved)]
    if moving := row.get("still_moving", 0):
        parts.append(f"{moving} of {row['finished'] - row['solved']} still moving at the end: train longer")
    if may_be_schedule(row):
        parts.append(f"ended unsolved under a {row['schedule']} rate: may be a matter of the schedule")
    return "; ".join(parts)


def _describe_accuracy(row: Row, unsolved: Row | None) -> str:
    level = row.get("test/chance_min")
    chance = f"chance {format_share(level)} %" if is_number(level) else "chance unknown"
    if unsolved is None:
        return f"accuracy {range_over_seeds(row, 'test/accuracy')} % ({chance})"
    accuracy, decision, forced = (
        range_over_seeds(unsolved, f"test/{metric}")
        for metric in ("accuracy", "decision_accuracy", "forced_local_accuracy")
    )
    subject = "unsolved seeds: " if row["solved"] else ""
    verdicts = {name.replace("_", " "): unsolved[name] for name in VERDICT_COUNTS if unsolved[name]}
    if verdicts.keys() == {"shortcut"}:
        level = row.get("test/decision_chance_min", level)
        decision_chance = f" (chance {format_share(level)} %)" if is_number(level) else ""
        return (
            f"{subject}teacher-forced later tokens {forced} %, decision {decision} %{decision_chance}: "
            "the Clever Hans shortcut"
        )
    if verdicts.keys() == {"undertrained"}:
        return f"{subject}accuracy {accuracy} %, decision {decision} % ({chance}): undertrained"
    kinds = ", ".join(f"{count} {name}" for name, count in verdicts.items())
    return f"{subject}{kinds}; accuracy {accuracy} %, decision {decision} % ({chance})"


def describe_hue_levels(sweep: Sweep) -> list[tuple[Row, str]]:
    """Return a row and a sentence for each value of the parameter that colours the plots."""
    settings = sweep.summary[sweep.summary["finished"] > 0]
    descriptions = []
    for row in sweep.summarise_by(sweep.axes.hue).to_dict("records"):
        own = settings
        if hue := sweep.axes.hue:
            own = settings[settings[hue].isna() if pd.isna(row[hue]) else settings[hue] == row[hue]]
        every, none = (own["solved"] == own["finished"]).sum(), (own["solved"] == 0).sum()
        sentence = _describe_solved(row)
        if len(own) > 1:
            share = f"{every} of {len(own)} settings" if every else "no setting"
            sentence += f"; {share} solved by every seed" + f", {none} by no seed" * bool(none)
        descriptions.append((row, sentence))
    return descriptions


def _describe_solved(row: Row) -> str:
    text = f"{row['solved']} of {row['finished']} solved"
    if not is_number(steps := row["steps_to_solve_median"]):
        return text
    return f"{text}, after {format_count(steps)} steps{' (median)' if row['solved'] > 1 else ''}"
