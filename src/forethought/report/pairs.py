"""Paired comparison of two objectives over the same seeds."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from forethought.report.groups import Sweep
from forethought.report.seeds import holm, mcnemar
from forethought.report.varying import format_label
from forethought.report.wording import format_p_value

_BASELINE = "next_token"
_OUTCOMES = ((True, True), (True, False), (False, True), (False, False))  # in the order of `Comparison`

_Pair = tuple[tuple[tuple[str, str], ...], int]
"""All settings but the objective, and the seed."""


class Comparison(NamedTuple):
    """Counts of pairs of finished runs that differ only in the objective, by solved side."""

    objective: str
    baseline: str
    both: int
    only_objective: int
    only_baseline: int
    neither: int

    @property
    def pairs(self) -> int:
        return self.both + self.only_objective + self.only_baseline + self.neither

    @property
    def p(self) -> float:
        """p of the exact McNemar test. Pairs count as independent."""
        return mcnemar(self.only_objective, self.only_baseline)


def compare_objectives(sweep: Sweep) -> list[Comparison]:
    """Compare each objective with `next_token`; without `next_token`, the second of two with the first.

    If an option of an objective is swept, each of its values counts as an objective. Empty without a
    baseline or without a common pair.
    """
    keys = [key for key in sweep.keys if key.split(".")[0] == "objective"]
    solved: dict[str, dict[_Pair, bool]] = {}
    for group in sweep.groups:
        for run in group.finished:
            outcomes = solved.setdefault(format_label(run, keys), {})
            outcomes[group.conditions, run.seed] = run.verdict == "solved"
    baseline = _BASELINE if _BASELINE in solved else min(solved, default="") if len(solved) == 2 else None
    if baseline is None or len(solved) < 2:
        return []
    comparisons = []
    for objective in (name for name in solved if name != baseline):
        pairs = solved[objective].keys() & solved[baseline].keys()
        counts = Counter((solved[objective][pair], solved[baseline][pair]) for pair in pairs)
        if pairs:
            comparisons.append(Comparison(objective, baseline, *(counts[pair] for pair in _OUTCOMES)))
    return comparisons


def tabulate_comparisons(comparisons: Sequence[Comparison]) -> tuple[list[str], list[list[str]]]:
    """Return titles and rows as text. Several comparisons also get p adjusted by Holm's method."""
    several = len(comparisons) > 1
    baseline = comparisons[0].baseline
    titles = ["", "pairs", "both", "objective only", f"{baseline} only", "neither", "p"]
    rows = []
    for comparison, adjusted in zip(comparisons, holm([entry.p for entry in comparisons]), strict=True):
        objective, _, *counts = comparison
        ps = [comparison.p, adjusted][: 1 + several]
        rows.append([objective, *map(str, (comparison.pairs, *counts)), *map(format_p_value, ps)])
    return titles + ["p, Holm"] * several, rows


def explain_comparisons(comparisons: Sequence[Comparison]) -> str:
    """Return the caption of the table."""
    caption = (
        f"Each objective against {comparisons[0].baseline}, in pairs of finished runs that share the seed "
        "and all other settings. p: exact two-sided McNemar test on the pairs in which exactly one of the "
        "two runs solved the task. Pairs count as independent. p < 0.05 requires at least six such pairs, "
        "all in favour of the same objective."
    )
    return caption + " Holm: p adjusted for all comparisons of the table." * (len(comparisons) > 1)
