"""Numbers as tokens, one a digit."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

VOCABULARY = (*"0123456789,/-=", "end", "$")
"""Tokens of numbers in decimal, of what stands between them, and of padding."""

_TEN = 10


@dataclass(frozen=True)
class Numbers:
    """Lists of numbers below `size` and their digits. Each number is followed by a token of its place."""

    size: int

    @property
    def _powers(self) -> list[int]:
        return [_TEN**place for place in range(len(str(self.size - 1)))]

    def longest(self, counts: list[int]) -> int:
        """Return the tokens of the longest list of distinct numbers, which occur so often (most first)."""
        lengths = sorted((len(str(number)) for number in range(self.size)), reverse=True)
        return sum(count * (length + 1) for count, length in zip(counts, lengths, strict=False))

    def spell(self, numbers: Int[Tensor, "B S"], after: Iterable[str]) -> Int[Tensor, "B T"]:
        """Return the tokens of each number and the token after it, with `$` in place of leading zeros."""
        digits = [numbers // power % _TEN for power in self._powers]
        digits[1:] = [
            digit.masked_fill(numbers < power, len(VOCABULARY) - 1)
            for digit, power in zip(digits[1:], self._powers[1:], strict=True)
        ]
        last = numbers.new_tensor([VOCABULARY.index(token) for token in after]).expand_as(numbers)
        return torch.stack([*reversed(digits), last], 2).flatten(1)

    def read(self, tokens: Int[Tensor, "B T"], count: int) -> Int[Tensor, "B S"]:
        """Return the numbers before the first `count` tokens that are neither digits nor `$`.

        Tokens may be of any form. If they are not what `spell` writes of the numbers returned, without `$`
        between them, they are no list of numbers.
        """
        is_digit = (tokens < _TEN) | (tokens == len(VOCABULARY) - 1)
        place = is_digit.int().argsort(dim=1, stable=True)[:, :count]
        numbers, reads = torch.zeros_like(place), torch.ones_like(place, dtype=torch.bool)
        for power in self._powers:
            place = place - 1
            digit = tokens.gather(1, place.clamp(min=0))
            reads = reads & (place >= 0) & (digit < _TEN)
            numbers = numbers + power * digit.where(reads, 0)
        return numbers
