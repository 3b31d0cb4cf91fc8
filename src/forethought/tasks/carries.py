"""Carry chains of a sum of two numbers: their law over random sums, and sums balanced over their lengths.

A chain begins at a pair of digits that sums to more than 9, and goes on over pairs that sum to 9.
"""

from collections import defaultdict
from functools import lru_cache
from itertools import product

import torch
from jaxtyping import Int
from torch import Tensor

from forethought.tasks.draw import Draws

_SHARES = (45, 10, 45)
"""Of the 100 pairs of digits: how many sum to less than 9, to 9 and to more. These are the kinds 0, 1, 2."""


def _next_run(run: int, kind: int) -> int:
    """Return the length of the chain that ends at a pair, from that of the chain at the pair before."""
    return (0, run + (run > 0), 1)[kind]


@lru_cache(maxsize=64)
def carry_chances(digits: int, is_balanced: bool) -> tuple[float, float]:
    """Return the accuracy of a policy that looks one pair to the right: of whole sums, and on decisions.

    Where that pair sums to 9, the policy predicts always a carry, or never one, whichever is right for more
    sums. A decision is the digit left of a run of pairs that sum to 9, the last pair not counted: it never
    receives a carry.

    Args:
        digits: of each number.
        is_balanced: the length of the longest chain is uniform over 0 … digits, else the numbers are.
    """
    # (chain at this pair, longest chain, this pair sums to 9, some such pair got no carry) to a count of
    # sums, their decisions, and their decisions with a carry
    sums: dict[tuple[int, int, bool, bool], tuple[int, ...]] = {(0, 0, False, False): (1, 0, 0)}
    for place in range(digits + 1):  # one place more: a pair of zeros closes the last run
        grown = defaultdict[tuple[int, int, bool, bool], tuple[int, ...]](lambda: (0, 0, 0))
        for (run, longest, is_open, is_spurned), (count, decisions, carried) in sums.items():
            for kind, share in enumerate(_SHARES if place < digits else (1,)):
                still_open = kind == 1 and place > 0
                ended = count * (is_open and not still_open)
                counts = (count, decisions + ended, carried + ended * (run > 0))
                after = _next_run(run, kind)
                key = (after, max(longest, after), still_open, is_spurned or (still_open and run == 0))
                before = grown[key]
                grown[key] = tuple(a + share * b for a, b in zip(before, counts, strict=True))
        sums = grown
    totals = [sum(row[0] for key, row in sums.items() if key[1] == length) for length in range(digits + 1)]
    never = always = deciding = carrying = 0.0
    for (_, longest, _, is_spurned), (count, decisions, carried) in sums.items():
        scale = totals[longest] * (digits + 1) if is_balanced else 100**digits
        never += count / scale * (longest < 2)
        always += count / scale * (not is_spurned)
        deciding += decisions / scale
        carrying += carried / scale
    chance, hits = max((never, deciding - carrying), (always, carrying))
    return chance, hits / deciding if deciding else 1.0


def draw_balanced(digits: int, count: int, draws: Draws) -> Int[Tensor, "B 2 N"]:
    """Draw the digits of two numbers such that their longest carry chain is uniform over 0 … digits.

    Among the pairs of numbers with one length, all are equally likely. The most significant digit is first.
    """
    bounds, shares, pairs = _tables(digits, str(draws.device))
    target = draws.integers(digits + 1, count)
    run, is_met = torch.zeros_like(target), target == 0
    operands = []
    for place in range(digits):
        kind = (draws.integers(1 << 31, count, 1) >= bounds[place, target, run, is_met.long()]).sum(1)
        operands.append(pairs[kind, draws.below(shares[kind], count)])
        run = torch.where(kind == 1, run + (run > 0), (kind == 2).long())
        is_met = is_met | (run == target)
    return torch.stack(operands[::-1], 2)


@lru_cache(maxsize=16)  # a GPU would wait for the copies
def _tables(
    digits: int, device: str
) -> tuple[Int[Tensor, "N L R 2 2"], Int[Tensor, " 3"], Int[Tensor, "3 45 2"]]:
    """Return the bounds of the kinds of pairs, the number of pairs of each kind, and the pairs.

    At a place (0 is the last pair), for the chain to reach, the chain so far and whether it was reached, a
    number below 2^31 is below the first bound for kind 0, and else below the second for kind 1.
    """
    sizes = range(digits + 1)
    states = product(range(digits), sizes, sizes, (0, 1))
    bounds = [_bounds(digits - place - 1, target, run, met) for place, target, run, met in states]
    by_kind = torch.zeros(3, max(_SHARES), 2, dtype=torch.long)
    every = torch.cartesian_prod(torch.arange(10), torch.arange(10))
    for kind, share in enumerate(_SHARES):
        by_kind[kind, :share] = every[every.sum(1).sub(9).sign() == kind - 1]
    table = torch.tensor(bounds, device=device).view(digits, digits + 1, digits + 1, 2, 2)
    return table, torch.tensor(_SHARES, device=device), by_kind.to(device)


def _bounds(pairs: int, target: int, run: int, met: int) -> tuple[int, int]:
    """Return where the kinds 0 and 1 end within 2^31, for a pair with so many pairs left of it."""
    low, nine, high = (
        share * _ways(pairs, target, _next_run(run, kind), met) for kind, share in enumerate(_SHARES)
    )
    total = max(1, low + nine + high)
    return (low << 31) // total, (low + nine << 31) // total


@lru_cache(maxsize=1 << 16)
def _ways(pairs: int, target: int, run: int, met: int) -> int:
    """Return in how many ways so many more pairs make `target` the longest chain."""
    met = met or run == target
    if run > target or pairs == 0:
        return int(met and run <= target)
    return sum(
        share * _ways(pairs - 1, target, _next_run(run, kind), met) for kind, share in enumerate(_SHARES)
    )
