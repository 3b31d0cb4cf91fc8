"""What was found, in sentences."""

from collections import Counter

from forethought.report.groups import Group, Sweep, values
from forethought.report.seeds import quartiles
from forethought.report.wording import share, spread, steps


def finding(group: Group) -> str:
    """`0 of 2 solved; teacher-forced later tokens 99.9 %, decision 50 %, …: the Clever Hans shortcut`."""
    if not group.finished:
        return f"none of {len(group.runs)} runs finished" if len(group.runs) > 1 else "the run did not finish"
    return f"{_solved(group)}; {_rest(group)}"


def _rest(group: Group) -> str:
    chance = group.one("test/chance")
    guess = "chance unknown" if chance is None else f"chance {share(chance)} %"
    if not group.unsolved:
        return f"accuracy {spread(group.values('test/accuracy'))} % ({guess})"
    # What follows speaks of the seeds that failed.
    where = "the others: " if group.solved else ""
    accuracy = spread(values(group.unsolved, "test/accuracy"))
    decision = spread(values(group.unsolved, "test/decision_accuracy"))
    verdicts = Counter(run.verdict or "no verdict" for run in group.unsolved)
    if verdicts.keys() == {"shortcut"}:
        forced = spread(values(group.unsolved, "test/forced_local_accuracy"))
        level = group.decision_chance
        guessed = "" if level is None else f", where a guess gets {share(level)} %"
        return (
            f"{where}teacher-forced later tokens {forced} %, decision {decision} %{guessed}: "
            "the Clever Hans shortcut"
        )
    if verdicts.keys() == {"undertrained"}:
        return f"{where}accuracy {accuracy} %, decision {decision} % ({guess}): undertrained"
    kinds = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.most_common())
    return f"{where}{kinds}; accuracy {accuracy} %, decision {decision} % ({guess})"


def overview(sweep: Sweep) -> list[tuple[Group, str]]:
    """One sentence for each value of the parameter that colours the plots, over all other settings."""
    found = []
    for part in sweep.merged(sweep.axes.hue):
        settings = [
            group
            for group in sweep.groups
            if group.finished and part.settings.items() <= group.settings.items()
        ]
        every = sum(not group.unsolved for group in settings)
        none = sum(not group.solved for group in settings)
        found.append(
            (
                part,
                f"{_solved(part)}; {every} of {len(settings)} settings solved by every seed, {none} by none",
            )
        )
    return found


def _solved(group: Group) -> str:
    solved = f"{len(group.solved)} of {len(group.finished)} solved"
    found = quartiles(values(group.solved, "steps_to_solve"))
    if found is not None:
        solved += f", after {steps(found.median)} steps" + (" (median)" if len(group.solved) > 1 else "")
    return solved
