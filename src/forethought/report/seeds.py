"""What may be said over seeds: rates with their interval, medians and ranges, never a bare mean."""

from collections.abc import Sequence
from math import comb, sqrt
from statistics import quantiles
from typing import NamedTuple

Z = 1.959964  # two-sided 95 %


def wilson(successes: int, n: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of a rate; all of [0, 1] when nothing was tried.

    Unlike the normal approximation it stays meaningful at 0 of n, the usual outcome here.
    """
    if n == 0:
        return 0.0, 1.0
    rate, shrink = successes / n, 1 + Z**2 / n
    centre = (rate + Z**2 / (2 * n)) / shrink
    margin = Z * sqrt(rate * (1 - rate) / n + Z**2 / (4 * n**2)) / shrink
    return max(0.0, centre - margin), min(1.0, centre + margin)


class Quartiles(NamedTuple):
    """Of a sample, interpolated linearly between its order statistics (as NumPy and pandas do)."""

    low: float
    median: float
    high: float


def quartiles(numbers: Sequence[float]) -> Quartiles | None:
    """None of nothing; three times the same of one number."""
    if len(numbers) < 2:
        return Quartiles(*[float(numbers[0])] * 3) if numbers else None
    return Quartiles(*quantiles(numbers, method="inclusive"))


def mcnemar(one: int, other: int) -> float:
    """Two-sided p of the exact McNemar (sign) test.

    Of the pairs in which only one side succeeded, `one` and `other` count those of each side; if the sides
    are equally good, each such pair is a fair coin. 1 where there is no such pair.
    """
    tosses = one + other
    tail = sum(comb(tosses, heads) for heads in range(min(one, other) + 1))
    return min(1.0, 2 * tail / 2**tosses)


def holm(ps: Sequence[float]) -> list[float]:
    """The p-values of several tests, adjusted so that all together err with the level of one.

    Source: Holm, "A simple sequentially rejective multiple test procedure" (1979).
    """
    adjusted, largest = [0.0] * len(ps), 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[index]))
        adjusted[index] = largest
    return adjusted
