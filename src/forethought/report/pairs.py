"""Two objectives over the same seeds: which of them solved what the other did not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from forethought.report.groups import Sweep
from forethought.report.seeds import holm, mcnemar
from forethought.report.varying import label
from forethought.report.wording import p_value

BASELINE = "next_token"

_Pair = tuple[tuple[tuple[str, str], ...], int]
"""All settings but the objective, and the seed."""


@dataclass(frozen=True)
class Comparison:
    """Of the pairs of finished runs that differ in nothing but the objective: how many solved it."""

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
        """Exact McNemar test, each pair counted as independent of the others."""
        return mcnemar(self.only_objective, self.only_baseline)


def comparisons(sweep: Sweep) -> list[Comparison]:
    """Each objective with `next_token`; where that is not there, the second of two with the first.

    An objective whose own parameters vary counts once for each of their values. Without a baseline, or
    without a common pair, there is nothing to compare.
    """
    keys = [key for key in sweep.keys if key.split(".")[0] == "objective"]
    solved: dict[str, dict[_Pair, bool]] = {}
    for group in sweep.groups:
        for run in group.finished:
            outcomes = solved.setdefault(label(run, keys), {})
            outcomes[group.conditions, run.seed] = run.verdict == "solved"
    first = BASELINE if BASELINE in solved else min(solved, default="") if len(solved) == 2 else None
    if first is None or len(solved) < 2:
        return []
    found = [_compare(name, solved[name], first, solved[first]) for name in solved if name != first]
    return [each for each in found if each.pairs]


def comparison_table(compared: Sequence[Comparison]) -> tuple[list[str], list[list[str]]]:
    """Titles and rows, in words; with several comparisons also p after Holm, for all of them together."""
    several = len(compared) > 1
    baseline = compared[0].baseline
    titles = [
        "",
        "pairs",
        "both",
        "only it",
        f"only {baseline}",
        "neither",
        "p",
        *["p, Holm"] * several,
    ]
    rows = []
    for each, together in zip(compared, holm([each.p for each in compared]), strict=True):
        counts = each.pairs, each.both, each.only_objective, each.only_baseline, each.neither
        ps = [each.p, together] if several else [each.p]
        rows.append([each.objective, *map(str, counts), *map(p_value, ps)])
    return titles, rows


def meaning(compared: Sequence[Comparison]) -> str:
    words = (
        f"Each against {compared[0].baseline}, in pairs of finished runs with the same seed and otherwise "
        "the same settings. p: exact McNemar test (two-sided) on the pairs in which only one of the two "
        "solved it, all pairs counted as independent; p < 0.05 takes at least six such pairs, all one way."
    )
    return words + " Holm: p adjusted for all comparisons together." * (len(compared) > 1)


def _compare(name: str, one: dict[_Pair, bool], baseline: str, other: dict[_Pair, bool]) -> Comparison:
    outcomes = Counter((one[pair], other[pair]) for pair in one.keys() & other.keys())
    return Comparison(
        name,
        baseline,
        both=outcomes[True, True],
        only_objective=outcomes[True, False],
        only_baseline=outcomes[False, True],
        neither=outcomes[False, False],
    )
