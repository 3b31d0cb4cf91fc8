"""Sentences about the outcome of each group."""

from collections import Counter

from forethought.report.groups import Group, Sweep, collect_values
from forethought.report.seeds import quartiles
from forethought.report.wording import format_count, format_range, format_share


def describe_group(group: Group) -> str:
    """Return a sentence: `0 of 2 solved; teacher-forced later tokens 99.9 %, …: the Clever Hans shortcut`."""
    if not group.finished:
        return f"none of {len(group.runs)} runs finished" if len(group.runs) > 1 else "the run did not finish"
    return f"{_describe_solved(group)}; {_describe_accuracy(group)}"


def _describe_accuracy(group: Group) -> str:
    chance = "chance unknown" if group.chance is None else f"chance {format_share(group.chance)} %"
    if not group.unsolved:
        return f"accuracy {format_range(group.collect_values('test/accuracy'))} % ({chance})"
    accuracy, decision, forced = (
        format_range(collect_values(group.unsolved, f"test/{metric}"))
        for metric in ("accuracy", "decision_accuracy", "forced_local_accuracy")
    )
    subject = "unsolved seeds: " if group.solved else ""
    verdicts = Counter(run.verdict or "no verdict" for run in group.unsolved)
    if verdicts.keys() == {"shortcut"}:
        level = group.decision_chance
        decision_chance = "" if level is None else f" (chance {format_share(level)} %)"
        return (
            f"{subject}teacher-forced later tokens {forced} %, decision {decision} %{decision_chance}: "
            "the Clever Hans shortcut"
        )
    if verdicts.keys() == {"undertrained"}:
        return f"{subject}accuracy {accuracy} %, decision {decision} % ({chance}): undertrained"
    kinds = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.most_common())
    return f"{subject}{kinds}; accuracy {accuracy} %, decision {decision} % ({chance})"


def describe_hue_levels(sweep: Sweep) -> list[tuple[Group, str]]:
    """Return a sentence for each value of the parameter that colours the plots, over all other settings."""
    descriptions = []
    for level in sweep.merge_groups(sweep.axes.hue):
        groups = [
            group
            for group in sweep.groups
            if group.finished and level.varying.items() <= group.varying.items()
        ]
        by_every_seed = sum(not group.unsolved for group in groups)
        by_no_seed = sum(not group.solved for group in groups)
        settings = f"{by_every_seed} of {len(groups)} settings solved by every seed, {by_no_seed} by no seed"
        descriptions.append((level, f"{_describe_solved(level)}; {settings}"))
    return descriptions


def _describe_solved(group: Group) -> str:
    summary = quartiles(collect_values(group.solved, "steps_to_solve"))
    if summary is None:
        return f"{group.solved_ratio} solved"
    note = " (median)" if len(group.solved) > 1 else ""
    return f"{group.solved_ratio} solved, after {format_count(summary.median)} steps{note}"
