"""The verdict of a run in one word."""

from forethought.results import Verdict

# A later token read off the true prefix is as good as certain; a decision is at chance while it is
# within a tenth of the way from chance to certainty.
_READ_OFF = 0.99
_TENTH = 0.1


def verdict(metrics: dict[str, float], solve_threshold: float) -> Verdict:
    """Return the verdict for metrics with the names of `diagnose`.

    * `solved`: accuracy reached the threshold.
    * `shortcut`: with the true prefix every other token is read off, while the decision stands at
      chance. This is the Clever Hans failure.
    * `undertrained`: clearly below what a guesser gets: not even the local rules are learned.
    * `partial`: anything between.
    """
    chance, decision_chance = metrics["chance"], metrics["decision_chance"]
    if metrics["accuracy"] >= solve_threshold:
        return "solved"
    must_plan = decision_chance < 1
    away = abs(metrics.get("decision_accuracy", 1.0) - decision_chance)
    at_chance = away <= _TENTH * (1 - decision_chance)
    if must_plan and at_chance and metrics.get("forced_local_accuracy", 0.0) >= _READ_OFF:
        return "shortcut"
    if metrics["accuracy"] < (1 - _TENTH) * chance:
        return "undertrained"
    return "partial"
