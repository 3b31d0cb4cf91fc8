"""Statistics over seeds: solve rates with their interval, and tests instead of bare means."""

from collections.abc import Sequence
from math import comb, sqrt

_Z = 1.959964  # two-sided 95 %


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of a rate; [0, 1] if n is 0.

    Unlike the normal approximation, the interval stays meaningful at 0 of n, the usual outcome here.
    """
    if n == 0:
        return 0.0, 1.0
    rate, shrink = successes / n, 1 + _Z**2 / n
    centre = (rate + _Z**2 / (2 * n)) / shrink
    margin = _Z * sqrt(rate * (1 - rate) / n + _Z**2 / (4 * n**2)) / shrink
    return max(0.0, centre - margin), min(1.0, centre + margin)


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the two-sided p of the exact McNemar (sign) test; 1 without discordant pairs.

    Args:
        only_first: pairs in which only the first side succeeded.
        only_second: pairs in which only the second side succeeded.

    If the two sides are equally good, each discordant pair is a toss of a fair coin.
    """
    tosses = only_first + only_second
    tail = sum(comb(tosses, heads) for heads in range(min(only_first, only_second) + 1))
    return min(1.0, 2 * tail / 2**tosses)


def holm(ps: Sequence[float]) -> list[float]:
    """Adjust the p-values of several tests so that the family-wise error rate keeps the level of one test.

    Source: Holm, "A simple sequentially rejective multiple test procedure" (1979).
    """
    adjusted, largest = [0.0] * len(ps), 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[index]))
        adjusted[index] = largest
    return adjusted
