"""Addition of two numbers: writing the sum from the left requires looking ahead along a carry chain."""

import re
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from pydantic import Field
from torch import Tensor

from forethought.errors import InputError
from forethought.tasks.base import Batch, Task
from forethought.tasks.carries import carry_chances, draw_balanced
from forethought.tasks.draw import Draws
from forethought.tasks.numerals import from_digits, to_digits
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

    With a scratchpad, the answer first holds the digit and the carry of each pair, from the last pair to the
    first, and then the sum in `order`. Every token then follows from those before it:

        text     275+629=410190:0904
        answer   4 1 0 1 9 0 : 0 9 0 4

    With `scratchpad=optional`, any text may stand before the last `:`, and the sum after it is judged alone.
    Half of the training rows hold the scratchpad, all others and those of the test do not (`: 0 9 0 4 end`).
    The model can use tokens to work with, but nothing in the prompt asks for them.

    Source: Lee et al., "Teaching Arithmetic to Small Transformers" (2307.03381), §3, for both orders, the
    simplified scratchpad and the balanced carries. Their scratchpad spells `A->5, C->1` for `5 1` and is
    not optional, and they balance the number of carries, not the length of the longest chain.

    Args:
        digits: digits of each operand, at most 17 (sums are kept in 64 bits).
        order: `plain` writes the most significant digit first, `reversed` the least.
        scratchpad: `none`, `required` or `optional`. Only the sum after it is checked.
        pauses: pause tokens between the prompt and the answer.
        balanced: draw sums, also of the test, whose longest carry chain is uniform over 0 … digits.
    """

    digits: int = Field(default=4, ge=1, le=17)
    order: Literal["plain", "reversed"] = "plain"
    scratchpad: Literal["none", "required", "optional"] = "none"
    pauses: int = Field(default=0, ge=0, le=1000)
    balanced: bool = False

    outcomes: ClassVar = ("right", "carry", "malformed", "other")

    @property
    def vocabulary(self) -> tuple[str, ...]:
        marks = {
            ":": self.scratchpad != "none",
            "pause": self.pauses > 0,
            "end": self.scratchpad == "optional",
        }
        return (*"0123456789", "+", "=", *(mark for mark, is_used in marks.items() if is_used), "$")

    @property
    def end(self) -> int | None:
        return self.vocabulary.index("end") if self.scratchpad == "optional" else None

    @property
    def _colon(self) -> int:
        return self.vocabulary.index(":")

    @property
    def prompt_length(self) -> int:
        return 2 * self.digits + 2 + self.pauses

    @property
    def answer_length(self) -> int:
        notes = 0 if self.scratchpad == "none" else 2 * self.digits + 1
        return notes + self.digits + 1 + (self.end is not None)

    @property
    def chance(self) -> float:
        """Accuracy of a policy that looks one pair to the right, and predicts a fixed carry if it sums to 9.

        The policy predicts no carry. If sums are balanced, it predicts a carry, which is right more often.
        """
        return carry_chances(self.digits, self.balanced)[0]

    @property
    def decision_chance(self) -> float:
        return carry_chances(self.digits, self.balanced)[1]

    @property
    def needs_plan(self) -> bool:
        return self.order == "plain" and self.scratchpad != "required"

    def sample(self, count: int, draws: Draws) -> Batch:
        """Draw sums; the answers hold a scratchpad only if it is required."""
        return self._batch(self._operands(count, draws))

    def sample_training(self, count: int, draws: Draws) -> Batch:
        """Draw sums; if the scratchpad is optional, half of the answers hold it."""
        rows = self.sample(count, draws)
        if self.scratchpad != "optional":
            return rows
        noted = self._with_notes(rows.prompt)
        return Batch(rows.prompt, noted.where(draws.integers(2, count, 1) == 1, rows.answer))

    def _operands(self, count: int, draws: Draws) -> Int[Tensor, "B 2 N"]:
        if self.balanced:
            return draw_balanced(self.digits, count, draws)
        return draws.integers(10, count, 2, self.digits)

    def _batch(self, operands: Int[Tensor, "B 2 N"]) -> Batch:
        plus, equals = (torch.full_like(operands[:, 0, :1], token) for token in (10, 11))
        prompt = torch.cat([operands[:, 0], plus, operands[:, 1], equals], 1)
        if self.pauses:
            prompt = F.pad(prompt, (0, self.pauses), value=self.vocabulary.index("pause"))
        if self.scratchpad == "none":
            return Batch(prompt, self._sum(prompt))
        if self.scratchpad == "required":
            return Batch(prompt, self._with_notes(prompt))
        answer = F.pad(F.pad(self._sum(prompt), (1, 0), value=self._colon), (0, 1), value=self.end)
        return Batch(prompt, F.pad(answer, (0, 2 * self.digits), value=self.dummy))

    def _with_notes(self, prompt: Int[Tensor, "B P"]) -> Int[Tensor, "B A"]:
        """Return the answers that hold the scratchpad."""
        total = self._total(prompt)
        carries = (total - F.pad(self._pairs(prompt), (1, 0))) % 10  # into each digit, also the first
        notes = torch.stack([total[:, 1:], carries[:, :-1]], 2).flip(1).flatten(1)
        answer = torch.cat([F.pad(notes, (0, 1), value=self._colon), self._sum(prompt)], 1)
        return answer if self.end is None else F.pad(answer, (0, 1), value=self.end)

    def _pairs(self, prompt: Int[Tensor, "B P"]) -> Int[Tensor, "B N"]:
        """Return the sum of each pair of digits, most significant first."""
        n = self.digits
        return prompt[:, :n] + prompt[:, n + 1 : 2 * n + 1]

    def _total(self, prompt: Int[Tensor, "B P"]) -> Int[Tensor, "B M"]:
        """Return the M = N + 1 digits of the sum, most significant first."""
        return to_digits(from_digits(self._pairs(prompt).flip(1)), self.digits + 1).flip(1)

    def _sum(self, prompt: Int[Tensor, "B P"]) -> Int[Tensor, "B M"]:
        """Return the digits of the sum in the order of writing."""
        total = self._total(prompt)
        return total.flip(1) if self.order == "reversed" else total

    def _places(self, answer: Int[Tensor, "B A"]) -> Int[Tensor, "B M"]:
        """Return the places of the sum's digits. They may be beyond the end of a malformed answer."""
        place = torch.arange(self.digits + 1, device=answer.device)
        if self.scratchpad != "optional":
            return (place + self.answer_length - self.digits - 1).expand(len(answer), -1)
        after = torch.arange(1, answer.shape[1] + 1, device=answer.device)
        return place + ((answer == self._colon) * after).amax(1, keepdim=True)

    def check(self, prompt: Int[Tensor, "B P"], answer: Int[Tensor, "B A"]) -> Int[Tensor, " B"]:
        """Return the outcome of each sum.

        * `carry`: every wrong digit is off by one, from a carry that was dropped or invented.
        * `malformed`: the sum contains a token that is not a digit. If the scratchpad is optional, also: no
          `:` stands before the sum, or no `end` after it.
        """
        places = self._places(answer)
        total = answer.gather(1, places.clamp(max=answer.shape[1] - 1))
        is_formed = (total <= 9).all(1)
        if self.end is not None:
            closed = F.pad(answer, (0, self.digits + 2), value=self.dummy).gather(1, places[:, -1:] + 1)
            is_formed &= (closed[:, 0] == self.end) & (answer == self._colon).any(1)
        difference = (total - self._sum(prompt)) % 10
        outcome = torch.full_like(answer[:, 0], self.outcomes.index("other"))
        one_off = ((difference == 0) | (difference == 1) | (difference == 9)).all(1)
        outcome = outcome.masked_fill(one_off, self.outcomes.index("carry"))
        outcome = outcome.masked_fill((difference == 0).all(1), 0)
        return outcome.masked_fill(~is_formed, self.outcomes.index("malformed"))

    def shares(self, prompt: Int[Tensor, "B P"], answer: Int[Tensor, "B A"]) -> dict[str, Bool[Tensor, " B"]]:
        """If the scratchpad is optional, return which answers begin with another token than `:`."""
        return {} if self.end is None else {"notes_written": answer[:, 0] != self._colon}

    def decision_mask(self, batch: Batch) -> Bool[Tensor, "B A"]:
        """Mark the digit left of a run of pairs that sum to 9.

        Inside the run, the true prefix determines the carry. No carry reaches the last pair, so that a
        run never begins there.
        """
        nine = self._pairs(batch.prompt)[:, :-1] == 9
        mask = F.pad(nine & ~F.pad(nine, (1, 0))[:, :-1], (0, 2))
        mask = mask.flip(1) if self.order == "reversed" else mask
        return torch.zeros_like(batch.answer, dtype=torch.bool).scatter(1, self._places(batch.answer), mask)

    def accepted(self, batch: Batch) -> Bool[Tensor, "B A V"] | None:
        """If the scratchpad is optional, accept any token but `end` up to the `:` before the sum."""
        if self.end is None:
            return None
        accepted = F.one_hot(batch.answer, len(self.vocabulary)).bool()
        place = torch.arange(batch.answer.shape[1], device=batch.answer.device)
        is_free = (place < self._places(batch.answer)[:, :1])[:, :, None]
        token = torch.arange(len(self.vocabulary), device=batch.answer.device)
        return torch.where(is_free, token < self.end, accepted)

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
        """Return `a+b=sum` or `a+b=scratchpad:sum`, whatever `order` and `pauses` are."""
        first = int(self._places(answer[None])[0, 0])
        notes, total = answer[:first], answer[first:][: self.digits + 1]
        total = total.flip(0) if self.order == "reversed" else total
        notes = notes if len(notes) > 1 else notes[:0]
        tokens = torch.cat([prompt[: 2 * self.digits + 2], notes, total]).tolist()
        return "".join(self.vocabulary[token] for token in tokens)

    def parse_all(self, lines: list[str]) -> Batch | None:
        n = self.digits
        text = "".join(lines)
        if self.scratchpad != "none" or self.pauses:
            return None
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
        notes = {"none": "", "required": f"[0-9]{{{2 * n}}}:", "optional": f"(?:[0-9]{{{2 * n}}}:)?"}
        if not re.fullmatch(rf"[0-9]{{{n}}}\+[0-9]{{{n}}}={notes[self.scratchpad]}[0-9]{{{n + 1}}}", line):
            form = {"none": "sum", "required": "scratchpad:sum", "optional": "sum or a+b=scratchpad:sum"}
            size = "" if self.scratchpad == "none" else f", and {2 * n} in the scratchpad"
            raise InputError(
                f"{line[:60]!r} is malformed; expected a+b={form[self.scratchpad]} with {n} digits in a and "
                f"b and {n + 1} in the sum{size} (task.digits={n}, task.scratchpad={self.scratchpad})"
            )
        operands = torch.tensor([[[int(digit) for digit in line[i : i + n]] for i in (0, n + 1)]])
        rows = self._batch(operands)
        answers = [rows.answer] if self.end is None else [rows.answer, self._with_notes(rows.prompt)]
        for answer in answers:
            if self.text(rows.prompt[0], answer[0]) == line:
                return rows.prompt[0].tolist(), answer[0][answer[0] != self.dummy].tolist()
        what = "a wrong scratchpad or a wrong sum" if ":" in line else "a wrong sum"
        raise InputError(f"{line!r} is {what}; correct the answer")
