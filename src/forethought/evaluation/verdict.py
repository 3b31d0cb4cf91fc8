"""The verdict of a run in one word."""

from forethought.results import Verdict

# A token that follows by a local rule is as good as certain. A decision is at chance while it is within a
# tenth of the way from chance to certainty. Tokens are read off earlier ones if a tenth of them is lost
# with those.
_LOCAL = 0.99
_TENTH = 0.1


def verdict(
    metrics: dict[str, float], solve_threshold: float, needs_plan: bool = True, goal: str = "accuracy"
) -> Verdict:
    """Return the verdict for metrics with the names of `diagnose`.

    * `solved`: the goal, accuracy unless the task has another one, reached the threshold.
    * `shortcut`: with the true prefix all other tokens are right, and they are read off earlier answer
      tokens, while the decision stands at chance. This is the Clever Hans failure.
    * `guessing`: likewise, but the other tokens are right without earlier answer tokens (as with three nodes
      on an arm, start and goal of which the prompt gives away), or no token needs a plan.
    * `undertrained`: clearly below what a guesser gets: not even the local rules are learned.
    * `partial`: anything between.

    Args:
        needs_plan: `Task.needs_plan`.
        goal: `Task.goal`.
    """
    chance, decision_chance = metrics["chance"], metrics["decision_chance"]
    if metrics[goal] >= solve_threshold:
        return "solved"
    must_plan = decision_chance < 1
    away = abs(metrics.get("decision_accuracy", 1.0) - decision_chance)
    at_chance = away <= _TENTH * (1 - decision_chance)
    # Absent from an objective that reads no answer, and from a task whose tokens all decide.
    local = metrics.get("forced_local_accuracy", 1.0 if "forced_accuracy" in metrics else 0.0)
    if must_plan and at_chance and local >= _LOCAL:
        read_off = local - metrics.get("blind_local_accuracy", local) >= _TENTH
        return "shortcut" if needs_plan and read_off else "guessing"
    if metrics["accuracy"] < (1 - _TENTH) * chance:
        return "undertrained"
    return "partial"
