"""Statistics over seeds: solve rates with their interval, and tests instead of bare means."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from math import comb, sqrt
from statistics import mean, variance
from typing import NamedTuple

_Z = 1.959964  # two-sided 95 %


def wilson(successes: float, n: float) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of a rate; [0, 1] if n is 0.

    Unlike the normal approximation, the interval stays meaningful at 0 of n, the usual outcome here.
    """
    if n == 0:
        return 0.0, 1.0
    rate, shrink = successes / n, 1 + _Z**2 / n
    centre = (rate + _Z**2 / (2 * n)) / shrink
    margin = _Z * sqrt(rate * (1 - rate) / n + _Z**2 / (4 * n**2)) / shrink
    return max(0.0, centre - margin), min(1.0, centre + margin)


class SurvivalStep(NamedTuple):
    """A step of `kaplan_meier`: from this time on, this share of the runs has solved the task."""

    time: float
    share: float
    low: float
    high: float
    at_risk: int
    """Runs that were still training at this time without having solved the task before."""


def kaplan_meier(times: Iterable[float], solved: Iterable[bool]) -> list[SurvivalStep]:
    """Return the Kaplan-Meier estimate of the share that has solved the task by a time, with a 95 % band.

    The first step is at time 0, and then one at each time at which a run ends. The band is the Wilson
    interval of the estimate for n' runs, where n' = (1 − S) / (S G) has the same variance: S is the unsolved
    share and G Greenwood's sum of d / (r (r − d)) over the steps so far, with d solved of r at risk. While no
    run is censored, this is the Wilson interval of k of n. Greenwood's own interval, on any scale, has no
    width at 0 of n and at n of n, the usual outcomes here.

    Source: Rothman, "Estimation of confidence limits for the cumulative probability of survival in life table
    analysis", J. Chronic Diseases 31 (1978).

    Args:
        times: what each run took to the solution, or else to the end of its budget.
        solved: whether the run solved the task at that time.
    """
    ends = sorted(zip(times, solved, strict=True))
    moments = [time for time, _ in ends]
    unsolved, greenwood, effective = 1.0, 0.0, float(len(ends))
    steps = [SurvivalStep(0.0, 0.0, *wilson(0, effective), len(ends))]
    for time in sorted({*moments}):
        at_risk = len(ends) - bisect_left(moments, time)
        events = sum(event for moment, event in ends if moment == time)
        if events == at_risk:
            effective, unsolved = at_risk / unsolved, 0.0  # the limit of n'
        elif events:
            greenwood += events / (at_risk * (at_risk - events))
            unsolved *= (at_risk - events) / at_risk
            effective = (1 - unsolved) / (unsolved * greenwood)
        elif unsolved == 1:
            effective = at_risk
        share = 1 - unsolved
        steps.append(SurvivalStep(time, share, *wilson(share * effective, effective), at_risk))
    return steps


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


def fisher_tail(first: tuple[int, int], second: tuple[int, int]) -> float:
    """Return the one-sided p of Fisher's exact test: chance of a split at least as uneven as observed.

    Args:
        first: successes and number of trials.
        second: the same of the other side.
    """
    (a, n), (b, m) = first, second
    if a * m > b * n:
        (a, n), (b, m) = (b, m), (a, n)
    total = a + b
    ways = sum(comb(m, k) * comb(n, total - k) for k in range(b, min(m, total) + 1))
    return ways / comb(n + m, total)


def student_quantile(degrees: int) -> float:
    """Return the 97.5 % quantile of Student's t; error below 0.001 from 4 degrees of freedom on.

    Source: Abramowitz & Stegun, "Handbook of Mathematical Functions", 26.7.5.
    """
    x, v = _Z, degrees
    terms = (
        (x**3 + x) / 4,
        (5 * x**5 + 16 * x**3 + 3 * x) / 96,
        (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384,
        (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / 92160,
    )
    return x + sum(term / v ** (power + 1) for power, term in enumerate(terms))


def predict_mean(
    values: Sequence[float], runs: int, rows: float = 0, other_rows: float = 0, margin: float = 0.0
) -> tuple[float, float]:
    """Return the 95 % prediction interval for the mean of further runs of the same kind.

    With n values of mean x and variance s², it is x ± t(n−1) · sqrt(s² (1/n + 1/m) + b (1/(n k) + 1/(m K))),
    where b = p (1 − p) is the variance of one test row, with p by Agresti and Coull, so that n runs without
    an error do not give b = 0.

    Args:
        values: at least two.
        runs: number of further runs m.
        rows: test rows k behind each value; 0 if the values are no shares of rows.
        other_rows: test rows K of each further run; 0 if as many.
        margin: the interval is at least so far from x on both sides.
    """
    n, centre = len(values), mean(values)
    spread = variance(values) * (1 / n + 1 / runs)
    if rows:
        share = (n * rows * centre + 2) / (n * rows + 4)
        spread += share * (1 - share) * (1 / (n * rows) + 1 / (runs * (other_rows or rows)))
    half = max(margin, student_quantile(n - 1) * sqrt(spread))
    return centre - half, centre + half
