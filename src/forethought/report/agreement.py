"""Agreement of our runs with a published value: agrees, differs or cannot tell."""

from collections.abc import Sequence
from math import ceil
from statistics import mean
from typing import Literal, get_args

from forethought.published import SOLVE_RATE, PublishedCell
from forethought.report.seeds import fisher_tail, predict_mean, wilson
from forethought.report.wording import is_share

Agreement = Literal["agrees", "differs", "cannot tell"]

WORDS: tuple[Agreement, ...] = get_args(Agreement)

LEVEL = 0.025
"""Largest one-sided p of what chance does not explain."""
_FEWEST_RUNS = 5
_WIDEST = 0.2  # interval with which a value can agree
_MARGIN = 0.01  # Shares that differ by less are not told apart.


def decide(
    cell: PublishedCell, metric: str, values: Sequence[float], rows: int = 0
) -> tuple[tuple[float, float] | None, Agreement, str]:
    """Return the interval in which the published value would lie if it came from runs like ours, and a word.

    For a metric it is the prediction interval for the mean of as many runs as the source averages
    (`predict_mean`), for a solve rate the Wilson interval of ours. The first takes seeds for normal, but
    outcomes are bimodal: five seeds may all have solved a task that others do not solve. So a value outside
    differs only if the source averages one run (or does not say), or if so many of its m seeds must have had
    another outcome than our n that chance is no explanation (Fisher's exact test, one-sided p < 0.025).

    Args:
        values: of finished runs.
        rows: test rows behind each of them; 0 if unknown.

    Returns:
        The interval (None below five runs), the word, and the reason of `cannot tell`.
    """
    n, m, uncertainty = len(values), cell.seeds or 1, cell.plus_minus or 0.0
    if n < _FEWEST_RUNS:
        return None, "cannot tell", f"fewer than {_FEWEST_RUNS} runs of ours"
    centre = mean(values)
    if metric == SOLVE_RATE:
        solved = round(sum(values))
        interval = wilson(solved, n)
        split: tuple[tuple[int, int], tuple[int, int]] | None = (solved, n), (round(cell.value * m), m)
    else:
        share = is_share(metric)
        # A metric of a part of the rows has fewer behind it; the spread of the seeds contains their error.
        low, high = predict_mean(values, m, rows * share, cell.test_samples or 0, _MARGIN if share else 0.0)
        interval = (max(0.0, low), min(1.0, high)) if share else (low, high)
        # The least number of published seeds that must have had another outcome than the mean of ours.
        farthest = 1 - centre if cell.value > centre else centre
        gap = max(0.0, abs(cell.value - centre) - uncertainty)
        split = ((0, n), (min(m, ceil(m * gap / farthest - 1e-9)), m)) if share and gap else None
    if interval[0] - uncertainty <= cell.value <= interval[1] + uncertainty:
        if interval[1] - interval[0] <= _WIDEST:
            return interval, "agrees", ""
        return interval, "cannot tell", f"interval wider than {_WIDEST:g}"
    if m > 1 and split and fisher_tail(*split) > LEVEL:
        return interval, "cannot tell", "few published seeds with another outcome would explain it"
    return interval, "differs", ""
