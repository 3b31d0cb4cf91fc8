"""Multiplication of two numbers: digits in the middle depend on many columns and on their carries."""

import re
from functools import lru_cache
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int, Shaped
from pydantic import Field
from torch import Tensor

from forethought.errors import InputError
from forethought.tasks.base import Batch, Task
from forethought.tasks.draw import Draws, splitmix64
from forethought.tasks.numerals import from_digits, to_digits
from forethought.validation import validated_dataclass

_MEASURED_ROWS = 1 << 16


@validated_dataclass
class Multiplication(Task):
    """Multiplication of two numbers of `digits` digits, padded with zeros. digits = 2, 12 · 34 = 408:

        text     21*43=8040
        prompt   2 1 * 4 3 =
        answer               8 0 4 0          loss on all four
                                   ^          the decision: is the carry from the column before 0, 1 or 2?

    All numbers are written from the last digit to the first. Column i holds the products x_a · y_b with
    a + b = i; here, the columns sum to 8, 10 and 3. Digit i is the last digit of column i plus the carry
    from column i - 1. Digit 0, x_0 · y_0 modulo 10, is a look-up. As in `Addition`, a rule that plans nothing
    knows column i and the one before it, but no carry into the latter. If this leaves the digit open, the
    digit is a decision. The digit written before tells a carry modulo 10 alone, and carries exceed 9 from
    two digits on.

    With `scratchpad=partial_products`, the answer first holds x · y_j · 10^j for each digit of y. Tokens are
    spent to gain serial depth: each of them follows from a few tokens before it.

        text     21*43=8400+0630:8040
        answer   8 4 0 0 + 0 6 3 0 : 8 0 4 0

    Source: Wu et al., "Do Language Models Plan Ahead for Future Tokens?" (2404.00859), multiplication: up to
    8 digits, GPT-2, 10 million samples. Zeros before the answer act there as filler tokens.

    Args:
        digits: digits of each operand, at most 9 (products are kept in 64 bits).
        order: of the product: `reversed` writes the least significant digit first, `plain` the most. The
            operands and the scratchpad are always reversed.
        pauses: pause tokens between the prompt and the answer.
        scratchpad: `none` or `partial_products`. Only the product after it is checked.
    """

    digits: int = Field(default=2, ge=1, le=9)
    order: Literal["reversed", "plain"] = "reversed"
    pauses: int = Field(default=0, ge=0, le=1000)
    scratchpad: Literal["none", "partial_products"] = "none"

    outcomes: ClassVar = ("right", "inner", "malformed", "other")

    @property
    def vocabulary(self) -> tuple[str, ...]:
        marks = ("+", ":") if self.scratchpad == "partial_products" else ()
        return (*"0123456789", "*", "=", *marks, *(("pause",) if self.pauses else ()), "$")

    @property
    def prompt_length(self) -> int:
        return 2 * self.digits + 2 + self.pauses

    @property
    def _notes(self) -> int:
        """The number of tokens before the product."""
        return 0 if self.scratchpad == "none" else self.digits * (2 * self.digits + 1)

    @property
    def answer_length(self) -> int:
        return self._notes + 2 * self.digits

    @property
    def chance(self) -> float:
        """Accuracy of a policy that adds up, for each digit, its column and the one before.

        From the sum of the column before, the policy takes the likeliest carry. Exact up to two digits, else
        measured on 65,536 rows (with a standard error of at most 0.002).
        """
        return _column_chances(self.digits)[0]

    @property
    def decision_chance(self) -> float:
        return _column_chances(self.digits)[1]

    @property
    def needs_plan(self) -> bool:
        return self.digits > 1 and (self.order == "plain" or self.scratchpad == "none")

    def sample(self, count: int, draws: Draws) -> Batch:
        return self._batch(draws.integers(10, count, 2, self.digits))

    def _batch(self, operands: Int[Tensor, "B 2 N"]) -> Batch:
        times, equals = (torch.full_like(operands[:, 0, :1], token) for token in (10, 11))
        prompt = torch.cat([operands[:, 0], times, operands[:, 1], equals], 1)
        if self.pauses:
            prompt = F.pad(prompt, (0, self.pauses), value=self.vocabulary.index("pause"))
        product = self._in_order(self._product(prompt))
        if self.scratchpad == "none":
            return Batch(prompt, product)
        places = 10 ** torch.arange(self.digits, device=prompt.device)
        partial = from_digits(operands[:, 0])[:, None] * operands[:, 1] * places
        plus = self.vocabulary.index("+")
        notes = F.pad(to_digits(partial, 2 * self.digits), (0, 1), value=plus).flatten(1)
        notes[:, -1] = self.vocabulary.index(":")
        return Batch(prompt, torch.cat([notes, product], 1))

    def _operands(self, prompt: Int[Tensor, "B P"]) -> Int[Tensor, "B 2 N"]:
        n = self.digits
        return torch.stack([prompt[:, :n], prompt[:, n + 1 : 2 * n + 1]], 1)

    def _product(self, prompt: Int[Tensor, "B P"]) -> Int[Tensor, "B M"]:
        """Return the M = 2 N digits of the product, least significant first."""
        return to_digits(from_digits(self._operands(prompt)).prod(1), 2 * self.digits)

    def _in_order(self, digits: Shaped[Tensor, "B M"]) -> Shaped[Tensor, "B M"]:
        """Turn the order of the digits into that of writing, or back."""
        return digits.flip(1) if self.order == "plain" else digits

    def check(self, prompt: Int[Tensor, "B P"], answer: Int[Tensor, "B A"]) -> Int[Tensor, " B"]:
        """Return the outcome of each product.

        * `inner`: the first and the last digit are right, another one is not.
        * `malformed`: the product contains a token that is not a digit.
        """
        product = answer[:, self._notes :]
        is_right = product == self._in_order(self._product(prompt))
        outcome = torch.full_like(product[:, 0], self.outcomes.index("other"))
        outcome = outcome.masked_fill(is_right[:, 0] & is_right[:, -1], self.outcomes.index("inner"))
        outcome = outcome.masked_fill((product > 9).any(1), self.outcomes.index("malformed"))
        return outcome.masked_fill(is_right.all(1), 0)

    def _columns(self, prompt: Int[Tensor, "B P"]) -> Int[Tensor, "B M"]:
        """Return the sum of the digit products in each column, least significant first."""
        x, y = self._operands(prompt).unbind(1)
        place = torch.arange(self.digits, device=prompt.device)
        column = (place[:, None] + place).flatten().expand(len(prompt), -1)
        products = (x[:, :, None] * y[:, None]).flatten(1)
        return prompt.new_zeros(len(prompt), 2 * self.digits).scatter_add(1, column, products)

    def decision_mask(self, batch: Batch) -> Bool[Tensor, "B A"]:
        """Mark the digits for which the column before can send several carries."""
        before = self._columns(batch.prompt)[:, :-1]
        # Column 0 receives no carry, and column 1 at most 81 // 10. Any other can receive 10, which tips it.
        place = torch.arange(before.shape[1], device=before.device)
        is_open = (place > 1) | ((place == 1) & (before % 10 + 8 > 9))
        return F.pad(self._in_order(F.pad(is_open, (1, 0))), (self._notes, 0))

    def strata(self, batch: Batch) -> dict[str, Int[Tensor, " B"]]:
        """Return the significant digits of the smaller operand."""
        place = torch.arange(1, self.digits + 1, device=batch.prompt.device)
        return {"digits": ((self._operands(batch.prompt) > 0) * place).amax(2).amin(1)}

    @property
    def strata_sizes(self) -> dict[str, int]:
        return {"digits": self.digits + 1}

    def fingerprint(self, batch: Batch) -> Int[Tensor, " B"]:
        """Hash the two operands, in any order."""
        x, y = from_digits(self._operands(batch.prompt)).unbind(1)
        return splitmix64(torch.minimum(x, y) * 10**self.digits + torch.maximum(x, y))

    def text(self, prompt: Int[Tensor, " P"], answer: Int[Tensor, " A"]) -> str:
        """Return `rev(x)*rev(y)=rev(xy)` or `rev(x)*rev(y)=scratchpad:rev(xy)`, whatever `order` is."""
        notes, product = answer[: self._notes], self._in_order(answer[None, self._notes :])[0]
        tokens = torch.cat([prompt[: 2 * self.digits + 2], notes, product]).tolist()
        return "".join(self.vocabulary[token] for token in tokens)

    def parse(self, line: str) -> tuple[list[int], list[int]]:
        n = self.digits
        number, product = f"[0-9]{{{n}}}", f"[0-9]{{{2 * n}}}"
        notes = "" if self.scratchpad == "none" else rf"{product}(?:\+{product}){{{n - 1}}}:"
        if not re.fullmatch(rf"{number}\*{number}={notes}{product}", line):
            form = "x*y=xy" if self.scratchpad == "none" else "x*y=partial+…+partial:xy"
            raise InputError(
                f"{line[:60]!r} is malformed; expected {form}, last digits first, with {n} digits in x and y "
                f"and {2 * n} in each product (task.digits={n}, task.scratchpad={self.scratchpad})"
            )
        operands = torch.tensor([[[int(digit) for digit in line[i : i + n]] for i in (0, n + 1)]])
        row = self._batch(operands)
        if self.text(row.prompt[0], row.answer[0]) != line:
            raise InputError(f"{line!r} has a wrong product; correct the answer")
        return row.prompt[0].tolist(), row.answer[0].tolist()


@lru_cache(maxsize=16)
def _column_chances(digits: int) -> tuple[float, float]:
    """Return the accuracy of the policy of `Multiplication.chance`, of whole products and on decisions."""
    task = Multiplication(digits=digits)
    if digits <= 2:
        numbers = torch.arange(10**digits)
        batch = task._batch(to_digits(torch.cartesian_prod(numbers, numbers), digits))
    else:
        batch = task.sample(_MEASURED_ROWS, Draws(0, "chance"))
    hits, carry = [torch.ones(len(batch), dtype=torch.bool)], torch.zeros(len(batch), dtype=torch.long)
    for column in task._columns(batch.prompt)[:, :-1].unbind(1):
        carry = (column + carry) // 10
        counts = (column * 100 + carry).bincount(minlength=100 * (81 * digits + 1)).view(-1, 100)
        hits.append(counts.argmax(1)[column] == carry)
    right, deciding = torch.stack(hits, 1), task.decision_mask(batch)
    on_decisions = right[deciding].double().mean().item() if deciding.any() else 1.0
    return right.all(1).double().mean().item(), on_decisions
