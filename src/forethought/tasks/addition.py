"""Addition of two numbers: writing the sum from the left requires looking ahead along a carry chain."""

import re
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Int
from pydantic import Field
from torch import Tensor

from forethought.errors import InputError
from forethought.tasks.base import Batch, Task
from forethought.tasks.draw import Draws
from forethought.validation import validated_dataclass


@validated_dataclass
class Addition(Task):
    """Addition of two numbers of `digits` digits, padded with zeros. digits = 3:

        text     275+629=0904
        prompt   2 7 5 + 6 2 9 =
        answer                   0 9 0 4      loss on all four
                                   ^          the decision: 8 or 9?

    Left of a digit pair that sums to 9 (7 + 2 here), the digit depends on a carry from further right. A
    sum written from the left must look ahead for this carry. In a sum written from the right
    (`order=reversed`: 4 0 9 0) every digit follows from the digit before it and two digits of the prompt.

    Source: Lee et al., "Teaching Arithmetic to Small Transformers" (2307.03381), §3, for both orders.

    Args:
        digits: digits of each operand, at most 17 (sums are kept in 64 bits).
        order: `plain` writes the most significant digit first, `reversed` the least.
    """

    digits: int = Field(default=4, ge=1, le=17)
    order: Literal["plain", "reversed"] = "plain"

    outcomes: ClassVar = ("right", "carry", "malformed", "other")

    @property
    def vocabulary(self) -> tuple[str, ...]:
        return (*"0123456789", "+", "=", "$")

    @property
    def prompt_length(self) -> int:
        return 2 * self.digits + 2

    @property
    def answer_length(self) -> int:
        return self.digits + 1

    @property
    def chance(self) -> float:
        """Accuracy of a policy that looks one pair to the right and predicts no carry if it sums to 9.

        The policy fails exactly at a pair that sums to 9 and receives a carry. From right to left there
        are two states: the last pair sent a carry (45 %), or it did not (45 %, or 10 % for a sum of 9
        that received no carry).
        """
        carry, none = 0.0, 1.0
        for _ in range(self.digits):
            carry, none = 0.45 * (carry + none), 0.45 * (carry + none) + 0.1 * none
        return carry + none

    @property
    def decision_chance(self) -> float:
        """Accuracy of the same policy left of a run of pairs that sum to 9, where it predicts no carry."""
        incoming, right, weight = 0.0, 0.0, 0.0
        for place in range(1, self.digits):
            incoming = 0.45 + 0.1 * incoming
            leftmost = 1.0 if place == self.digits - 1 else 0.9
            right, weight = right + leftmost * (1 - incoming), weight + leftmost
        return right / weight if weight else 1.0

    @property
    def needs_plan(self) -> bool:
        return self.order == "plain"

    def sample(self, count: int, draws: Draws) -> Batch:
        return self._batch(draws.integers(10, count, 2, self.digits))

    def _batch(self, operands: Int[Tensor, "B 2 N"]) -> Batch:
        plus, equals = (torch.full_like(operands[:, 0, :1], token) for token in (10, 11))
        prompt = torch.cat([operands[:, 0], plus, operands[:, 1], equals], 1)
        return Batch(prompt, self._sum(prompt))

    def _pairs(self, prompt: Int[Tensor, "B P"]) -> Int[Tensor, "B N"]:
        """Return the sum of each pair of digits, most significant first."""
        return prompt[:, : self.digits] + prompt[:, self.digits + 1 : -1]

    def _sum(self, prompt: Int[Tensor, "B P"]) -> Int[Tensor, "B A"]:
        powers = 10 ** torch.arange(self.digits, -1, -1, device=prompt.device)
        total = (self._pairs(prompt) * powers[1:]).sum(1, keepdim=True)
        answer = total // powers % 10
        return answer.flip(1) if self.order == "reversed" else answer

    def check(self, prompt: Int[Tensor, "B P"], answer: Int[Tensor, "B A"]) -> Int[Tensor, " B"]:
        """Return the outcome of each sum.

        * `carry`: every wrong digit is off by one, from a carry that was dropped or invented.
        * `malformed`: the answer contains a token that is not a digit.
        """
        difference = (answer - self._sum(prompt)) % 10
        outcome = torch.full_like(answer[:, 0], self.outcomes.index("other"))
        one_off = ((difference == 0) | (difference == 1) | (difference == 9)).all(1)
        outcome = outcome.masked_fill(one_off, self.outcomes.index("carry"))
        outcome = outcome.masked_fill((answer > 9).any(1), self.outcomes.index("malformed"))
        return outcome.masked_fill((answer == self._sum(prompt)).all(1), 0)

    def decision_mask(self, batch: Batch) -> Bool[Tensor, "B A"]:
        """Mark the digit left of a run of pairs that sum to 9.

        Inside the run, the true prefix determines the carry. No carry reaches the last pair, so that a
        run never begins there.
        """
        nine = self._pairs(batch.prompt) == 9
        mask = torch.zeros_like(batch.answer, dtype=torch.bool)
        mask[:, : self.digits - 1] = nine[:, :-1]
        mask[:, 1 : self.digits - 1] &= ~nine[:, :-2]
        return mask.flip(1) if self.order == "reversed" else mask

    def carry_chain(self, prompt: Int[Tensor, "B P"]) -> Int[Tensor, " B"]:
        """Return the length of the longest carry chain.

        A chain is a pair that makes a carry and the pairs that sum to 9 and pass the carry on.
        """
        run = longest = torch.zeros_like(prompt[:, 0])
        for pair in self._pairs(prompt).flip(1).unbind(1):
            passed = torch.where((pair == 9) & (run > 0), run + 1, 0)
            run = torch.where(pair > 9, 1, passed)
            longest = torch.maximum(longest, run)
        return longest

    def strata(self, batch: Batch) -> dict[str, Int[Tensor, " B"]]:
        return {"carry": self.carry_chain(batch.prompt)}

    @property
    def strata_sizes(self) -> dict[str, int]:
        return {"carry": self.digits + 1}

    def text(self, prompt: Int[Tensor, " P"], answer: Int[Tensor, " A"]) -> str:
        digits = answer.flip(0) if self.order == "reversed" else answer
        return "".join(self.vocabulary[token] for token in torch.cat([prompt, digits]).tolist())

    def parse_all(self, lines: list[str]) -> Batch | None:
        n = self.digits
        text = "".join(lines)
        if {*map(len, lines)} != {3 * n + 3} or not text.isascii():
            return None
        tokens = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8).long().view(
            len(lines), -1
        ) - ord("0")
        places = torch.ones(3 * n + 3, dtype=torch.bool)
        for place, character in ((n, "+"), (2 * n + 1, "=")):
            places[place] = False
            if (tokens[:, place] != ord(character) - ord("0")).any():
                return None
            tokens[:, place] = self.vocabulary.index(character)
        if ((tokens < 0) | (tokens > 9))[:, places].any():
            return None
        prompt, digits = tokens[:, : self.prompt_length], tokens[:, self.prompt_length :]
        answer = digits.flip(1) if self.order == "reversed" else digits
        return None if self.check(prompt, answer).any() else Batch(prompt, answer)

    def parse(self, line: str) -> tuple[list[int], list[int]]:
        n = self.digits
        if not re.fullmatch(rf"[0-9]{{{n}}}\+[0-9]{{{n}}}=[0-9]{{{n + 1}}}", line):
            raise InputError(
                f"{line[:60]!r} is malformed; expected a+b=sum with {n} digits in a and b and {n + 1} in "
                f"the sum (task.digits={n})"
            )
        tokens = [self.vocabulary.index(character) for character in line]
        prompt, digits = tokens[: self.prompt_length], tokens[self.prompt_length :]
        answer = digits[::-1] if self.order == "reversed" else digits
        if self.check(torch.tensor([prompt]), torch.tensor([answer])).item():
            raise InputError(f"{line!r} is a wrong sum; correct the answer")
        return prompt, answer
