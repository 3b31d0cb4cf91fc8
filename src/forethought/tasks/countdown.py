"""The numbers game Countdown: combine given numbers by arithmetic until a target is reached."""

import json
import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import combinations, permutations
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from pydantic import Field
from torch import Tensor

from forethought.errors import Impossible, InputError
from forethought.tasks.base import TRAIN, Batch, Task
from forethought.tasks.draw import Draws, splitmix64
from forethought.tasks.graph import first_outcome, take_first
from forethought.tasks.numerals import from_digits, to_digits
from forethought.validation import validated_dataclass

_OPERATIONS = "+-*/"

_NUMBER = "[0-9]{1,5}"
_NUMBERS = f"{_NUMBER}(,{_NUMBER})+"
_EQUATION = f"{_NUMBER}[-+*/]{_NUMBER}={_NUMBER}"
_EQUATIONS = f"{_EQUATION}(,{_EQUATION})*"

_TRIES = 32
"""Games played for a row. With five numbers and results up to 10,000, all fail for 2 rows in 100,000."""

_CHANCE_ROWS = 1 << 13, 400
"""Rows from which `chance` and `decision_chance` are estimated. Their standard errors are below 0.008."""


@validated_dataclass
class Countdown(Task):
    """Equations that combine all given numbers, each of them once, into the target. inputs = 4:

        text     {"input": "86,28,13,31,96", "output": "86+28=114,31-13=18,114-18=96"}
        prompt   86 , 28 , 13 , 31 , 96
        answer                            86 + 28 = 114 , 31 - 13 = 18 , 114 - 18 = 96
                                          ^  ^ ^^         ^  ^ ^^        the decisions

    A result may be used in place of the two numbers that it is made of. It is a whole number from 0 to
    `largest`: divisions are exact. Any answer that keeps these rules and ends with the target is right.

    A result follows from its equation. The last equation combines the two numbers that are left: of four
    operations, a look-up finds the one that gives the target. The decisions are the left sides of all
    equations before it. A wrong one may hold, and shows in the last equation alone: hence the metrics
    `equation_accuracy_<i>`, one for each of the equations.

    The numbers of a row are drawn from 1 … `max_target`, and combined at random: two of those left, and an
    operation that keeps the rules. The first of 32 games that ends at a target is kept; if none does, the row
    is a sum. One tenth of the targets is held out for the test and one for validation, with all their games.

    With `tokens=digits`, rows are padded:

        prompt   8 6 , 2 8 , 1 3 , 3 1 , 9 6 =
        answer                                 8 6 + 2 8 = 1 1 4 , … = 9 6 end

    What differs from the sources: their numbers are uniform, and they write the first solution of a search.
    Ye's code does not check that the numbers are used once.

    Source: Gandhi et al., "Stream of Search" (2404.03683). `numbers`: Teoh et al. (NextLat), v4, App. C:
    inputs = 4, largest = 10,000, pauses = 8 (`|`), 500,000 rows. `digits`: Ye et al. (2410.14157), §4.

    Args:
        inputs: numbers that are given.
        largest: largest result.
        min_target: smallest target.
        max_target: largest target, and largest number that is given.
        pauses: pause tokens between prompt and answer.
        tokens: `numbers` has a token for each number, `digits` for each digit.

    Raises:
        Impossible: `max_target` is above `largest`, or there are less than ten targets.
    """

    inputs: int = Field(default=4, ge=3, le=5)
    largest: int = Field(default=100, ge=1, le=10_000)
    min_target: int = Field(default=10, ge=5)  # a sum of `inputs` numbers
    max_target: int = Field(default=100, ge=5)
    pauses: int = Field(default=0, ge=0, le=1000)
    tokens: Literal["numbers", "digits"] = "numbers"

    outcomes: ClassVar = ("right", "wrong_target", "wrong_arithmetic", "unavailable_number", "malformed")

    def __post_init__(self) -> None:
        if self.max_target > self.largest:
            raise Impossible(
                f"task.max_target={self.max_target}: above task.largest={self.largest}; expected at most that"
            )
        if self.max_target - self.min_target < 9:
            raise Impossible(
                f"task.max_target={self.max_target}: less than ten targets from "
                f"task.min_target={self.min_target} on, a tenth of which is held out; expected at least "
                f"{self.min_target + 9}"
            )

    @property
    def _first_mark(self) -> int:
        """Id of `+`. The next ones are `- * / = , |`, and `end` or `$`."""
        return self.largest + 1 if self.tokens == "numbers" else 10

    @property
    def _comma(self) -> int:
        return self._first_mark + 5

    @property
    def _close(self) -> int:
        """Id of `end`, or of `$` where answers are equally long: it is then cut off."""
        return self._first_mark + 7

    @property
    def vocabulary(self) -> tuple[str, ...]:
        return _vocabulary(self._first_mark, self.tokens == "digits")

    @property
    def end(self) -> int | None:
        return self._close if self.tokens == "digits" else None

    @property
    def padded_prompts(self) -> bool:
        return self.tokens == "digits"

    @property
    def _equations(self) -> int:
        return self.inputs - 1

    @property
    def prompt_length(self) -> int:
        if self.tokens == "digits":
            return (self.inputs + 1) * (len(str(self.max_target)) + 1) + self.pauses
        return 2 * self.inputs + 1 + self.pauses

    @property
    def answer_length(self) -> int:
        if self.tokens == "digits":
            given, result = len(str(self.max_target)), len(str(self.largest))
            return (self.inputs + 1) * given + 2 * (self.inputs - 2) * result + 3 * self._equations
        return 6 * self._equations - 1

    @property
    def chance(self) -> float:
        """Accuracy of random equations that keep the rules, with a look-up for the last one.

        Estimated from rows with a fixed seed. The policy combines numbers as the rows are drawn.
        """
        return _chances(self.inputs, self.largest, self.min_target, self.max_target, self.tokens)[0]

    @property
    def decision_chance(self) -> float:
        return _chances(self.inputs, self.largest, self.min_target, self.max_target, self.tokens)[1]

    def sample(self, count: int, draws: Draws) -> Batch:
        inputs = 1 + draws.integers(self.max_target, count, _TRIES, self.inputs)
        left, played = self._play(inputs, self._equations - 1, draws)
        last = self._moves(left[..., 0], left[..., 1])
        target = last[..., 3]
        legal = (target >= self.min_target) & (target <= self.max_target)
        last = _choose(last, legal, draws)
        equations = torch.stack([*played, last], 2)
        ended = legal.any(2)
        first = ended.int().argmax(1)
        row = torch.arange(count, device=first.device)
        inputs, equations = inputs[row, first], equations[row, first]

        # A sum, where every game has failed.
        target = self.min_target + draws.integers(self.max_target - self.min_target + 1, count, 1)
        parts = 1 + draws.below(target // self.inputs, count, self._equations)
        parts = torch.cat([parts, target - parts.sum(1, keepdim=True)], 1)
        sums = parts.cumsum(1)
        plus = torch.zeros_like(sums[:, 1:])
        resort = torch.stack([sums[:, :-1], plus, parts[:, 1:], sums[:, 1:]], 2)
        failed = ~ended.any(1)
        inputs = parts.where(failed[:, None], inputs)
        equations = resort.where(failed[:, None, None], equations)
        return self._write(inputs, equations, equations[:, -1, 3:])

    def _play(
        self, numbers: Int[Tensor, "*B N"], count: int, draws: Draws
    ) -> tuple[Int[Tensor, "*B M"], list[Int[Tensor, "*B 4"]]]:
        """Combine numbers at random `count` times; return those left, and the equations."""
        played = []
        for _ in range(count):
            orders = _pair_orders(numbers.shape[-1], str(draws.device))
            order = orders[draws.integers(len(orders), *numbers.shape[:-1])]
            numbers = numbers.gather(-1, order)
            moves = self._moves(numbers[..., 0], numbers[..., 1])
            played.append(_choose(moves, moves[..., 3] >= 0, draws))
            numbers = torch.cat([numbers[..., 2:], played[-1][..., 3:]], -1)
        return numbers, played

    def _combine(self, x: Int[Tensor, "*B"], y: Int[Tensor, "*B"]) -> Int[Tensor, "*B 4"]:
        """Return the result of each operation on x and y, in the order that is legal; -1 if none is."""
        small, large = torch.minimum(x, y), torch.maximum(x, y)
        divisor = small.clamp(min=1)
        quotient = (large // divisor).masked_fill(large % divisor > 0, -1)
        quotient = quotient.where(small > 0, (large > 0).long() - 1)  # 0 / large
        results = torch.stack([x + y, large - small, x * y, quotient], -1)
        return results.masked_fill(results > self.largest, -1)

    def _moves(self, x: Int[Tensor, "*B"], y: Int[Tensor, "*B"]) -> Int[Tensor, "*B 4 4"]:
        """Return an equation of x and y for each operation: first number, operation, second number, result.

        Sums and products begin with x. The result is -1 if it breaks the rules.
        """
        small, large = torch.minimum(x, y), torch.maximum(x, y)
        is_zero = small == 0
        first = torch.stack([x, large, x, small.where(is_zero, large)], -1)
        second = torch.stack([y, small, y, large.where(is_zero, small)], -1)
        operation = torch.arange(4, device=x.device).expand_as(first)
        return torch.stack([first, operation, second, self._combine(x, y)], -1)

    def _write(
        self, inputs: Int[Tensor, "B N"], equations: Int[Tensor, "B S 4"], target: Int[Tensor, "B 1"]
    ) -> Batch:
        numbers = torch.cat([inputs, target], 1)
        marks = torch.full_like(numbers, self._comma)
        marks[:, -1] = self._comma - 1  # `=`, which is written in digits alone
        prompt = self._spell(numbers, marks)
        prompt = take_first(prompt, prompt == self.dummy) if self.tokens == "digits" else prompt[:, :-1]
        prompt = F.pad(prompt[:, self.pauses - self.prompt_length :], (0, self.pauses), value=self._comma + 1)
        return Batch(prompt, self._spell_equations(equations, self._close)[:, : self.answer_length])

    def _spell(self, numbers: Int[Tensor, "B K"], marks: Int[Tensor, "B K"]) -> Int[Tensor, "B T"]:
        """Return the tokens of numbers with a mark after each, and then padding."""
        if self.tokens == "numbers":
            return torch.stack([numbers, marks], 2).flatten(1)
        digits = to_digits(numbers, len(str(self.largest))).flip(2)
        leads = digits.cumsum(2) == 0
        leads[..., -1] = False
        slots = torch.cat([digits.masked_fill(leads, self.dummy), marks[:, :, None]], 2).flatten(1)
        return take_first(slots, slots != self.dummy)

    def _spell_equations(self, equations: Int[Tensor, "B S 4"], closing: int) -> Int[Tensor, "B T"]:
        """Return the tokens of equations with commas between them and a mark after the last, and padding."""
        marks = torch.full_like(equations[..., 1:], self._comma)
        marks[..., 0] = self._first_mark + equations[..., 1]
        marks[..., 1] = self._comma - 1
        marks[:, -1, 2] = closing
        numbers = torch.stack([equations[..., column] for column in (0, 2, 3)], 2)
        return self._spell(numbers.flatten(1), marks.flatten(1))

    def _read(self, tokens: Int[Tensor, "B T"], count: int) -> tuple[Int[Tensor, "B K"], Int[Tensor, "B K"]]:
        """Return the first `count` numbers and the mark after each. Tokens may be of any form."""
        if self.tokens == "numbers":
            pairs = F.pad(tokens, (0, 1), value=self.dummy)[:, : 2 * count]
            return pairs[:, ::2], pairs[:, 1::2]
        is_digit = (tokens < 10) | (tokens == self.dummy)
        place = is_digit.int().argsort(dim=1, stable=True)[:, :count, None]
        before = place - 1 - torch.arange(len(str(self.largest)), device=tokens.device)
        slots = tokens[:, None].expand(-1, count, -1)
        digits = slots.gather(2, before.clamp(min=0)).masked_fill(before < 0, self.dummy)
        digits = digits * ((digits < 10).cumprod(2))
        return from_digits(digits), slots.gather(2, place)[..., 0]

    def _problem(self, prompt: Int[Tensor, "B P"]) -> tuple[Int[Tensor, "B N"], Int[Tensor, " B"]]:
        """Return the numbers that are given, and the target."""
        numbers, _ = self._read(prompt[:, : self.prompt_length - self.pauses], self.inputs + 1)
        return numbers[:, :-1], numbers[:, -1]

    def _solution(self, answer: Int[Tensor, "B A"]) -> Int[Tensor, "B S 4"]:
        numbers, marks = self._read(answer, 3 * self._equations)
        numbers = numbers.view(len(answer), -1, 3)
        operations = marks[:, ::3] - self._first_mark
        return torch.stack([numbers[..., 0], operations, numbers[..., 1], numbers[..., 2]], 2)

    def _judge(
        self, prompt: Int[Tensor, "B P"], answer: Int[Tensor, "B A"]
    ) -> tuple[Bool[Tensor, " B"], Bool[Tensor, "B S"], Bool[Tensor, "B S"], Bool[Tensor, " B"]]:
        """Return which answers are well-formed, and which of their equations have two numbers that are left.

        Then, which equations hold, and which answers end with the target.
        """
        (numbers, target), equations = self._problem(prompt), self._solution(answer)
        first, operation, second, result = equations.unbind(2)
        spelled, answer = self._spell_equations(equations, self._close), self.trim(answer)
        answer = F.pad(answer, (0, spelled.shape[1] - answer.shape[1]), value=self.dummy)
        is_formed = (spelled == answer).all(1) & ((operation >= 0) & (operation < 4)).all(1)
        is_formed &= (equations <= self.largest).flatten(1).all(1)
        available = []
        for step in range(self._equations):
            numbers, has_first = _spend(numbers, first[:, step])
            numbers, has_second = _spend(numbers, second[:, step])
            numbers = torch.cat([numbers, result[:, step : step + 1]], 1)
            available.append(has_first & has_second)
        true = [first + second == result, first - second == result, first * second == result]
        true.append((second > 0) & (first == second * result))
        holds = torch.stack(true, 2).gather(2, operation.clamp(0, 3)[:, :, None])[:, :, 0]
        return is_formed, torch.stack(available, 1), holds, result[:, -1] == target

    def check(self, prompt: Int[Tensor, "B P"], answer: Int[Tensor, "B A"]) -> Int[Tensor, " B"]:
        """Return the outcome of each answer: what is wrong with the first equation that is wrong.

        * `wrong_target`: no equation is wrong, but the last result is not the target.
        * `wrong_arithmetic`: the equation does not hold.
        * `unavailable_number`: a number on the left is not given, or was used before.
        * `malformed`: not as many equations as needed, or a number above `largest`.
        """
        is_formed, available, holds, ends = self._judge(prompt, answer)
        is_wrong = ~(available & holds)
        first = is_wrong.int().argmax(1, keepdim=True)
        sound = is_formed & ~is_wrong.any(1)
        kinds = [sound & ends, sound, is_formed & available.gather(1, first)[:, 0], is_formed]
        return first_outcome(kinds, self.outcomes.index("malformed"))

    def shares(self, prompt: Int[Tensor, "B P"], answer: Int[Tensor, "B A"]) -> dict[str, Bool[Tensor, " B"]]:
        """Return which equations are right, each for itself. The last one must also give the target."""
        is_formed, available, holds, ends = self._judge(prompt, answer)
        right = is_formed[:, None] & available & holds
        right[:, -1] &= ends
        return {f"equation_accuracy_{step}": column for step, column in enumerate(right.unbind(1), 1)}

    def decision_mask(self, batch: Batch) -> Bool[Tensor, "B A"]:
        """Mark the left sides of all equations but the last."""
        is_comma = (batch.answer == self._comma).long()
        equation = is_comma.cumsum(1) - is_comma
        solved = (batch.answer == self._comma - 1).cumsum(1)
        return (equation == solved) & (equation < self._equations - 1)

    def accepted(self, batch: Batch) -> Bool[Tensor, "B A V"]:
        """Return the tokens after which a right answer is still possible."""
        size = len(self.vocabulary)
        accepted = batch.answer.new_zeros(len(batch), (self.answer_length + 1) * size, dtype=torch.bool)
        for place, tokens, agrees, _, is_good in self._continuations(batch):
            token = tokens.where(agrees & is_good[:, :, None], self.dummy)
            accepted.scatter_(1, (place[:, None] * size + token).flatten(1), True)
        accepted = accepted.view(len(batch), -1, size)[:, :-1]
        return accepted & (torch.arange(size, device=accepted.device) != self.dummy)

    def _continuations(self, batch: Batch) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor, Tensor]]:
        """Yield, for each equation, the M equations that can be written there after the true ones before.

        These are their L columns (B, L), with A for padding; their tokens (B, M, L); which tokens come after
        the true ones of this equation (B, M, L); and the masks of the equations that keep the rules (B, M)
        and of those after which the target can be reached (B, M).
        """
        (numbers, target), equations = self._problem(batch.prompt), self._solution(batch.answer)
        start = torch.zeros_like(target[:, None])
        for step, equation in enumerate(equations.split(1, 1), 1):
            orders = _pair_orders(numbers.shape[1], str(numbers.device))
            pairs = numbers[:, orders]
            moves = self._moves(pairs[..., 0], pairs[..., 1])
            others = pairs[:, :, None, 2:].expand(-1, -1, 4, -1)
            left = torch.cat([others, moves[..., 3:]], 3)
            is_legal = moves[..., 3] >= 0
            is_good = is_legal & self._can_reach(left, target[:, None, None].expand_as(is_legal))
            mark = self._close if step == self._equations else self._comma
            tokens = self._spell_equations(moves.view(-1, 1, 4), mark).view(len(batch), 4 * len(orders), -1)
            true = self._spell_equations(equation, mark)
            agrees = F.pad((tokens == true[:, None]).cumprod(2)[:, :, :-1], (1, 0), value=1) > 0
            is_written = true != self.dummy
            place = start + torch.arange(true.shape[1], device=start.device)
            place = place.where(is_written, self.answer_length)
            yield place, tokens, agrees, is_legal.flatten(1), is_good.flatten(1)
            start = start + is_written.sum(1, keepdim=True)
            for number in equation[:, 0, [0, 2]].unbind(1):
                numbers, _ = _spend(numbers, number)
            numbers = torch.cat([take_first(numbers, numbers >= 0)[:, :-2], equation[:, 0, 3:]], 1)

    def _can_reach(self, numbers: Int[Tensor, "*B N"], target: Int[Tensor, "*B"]) -> Bool[Tensor, "*B"]:
        """Return whether numbers can be combined into the target, by a search through all equations."""
        count = numbers.shape[-1]
        if count == 1:
            return numbers[..., 0] == target
        reaches = torch.zeros_like(target, dtype=torch.bool)
        for i, j in combinations(range(count), 2):
            result = self._combine(numbers[..., i], numbers[..., j])
            others = numbers[..., None, [k for k in range(count) if k not in (i, j)]]
            left = torch.cat([others.expand(*result.shape, -1), result[..., None]], -1)
            reaches |= ((result >= 0) & self._can_reach(left, target[..., None].expand_as(result))).any(-1)
        return reaches

    def part(self, batch: Batch) -> Int[Tensor, " B"]:
        """Hold out one tenth of the targets for the test, and one for validation."""
        targets = torch.arange(self.min_target, self.max_target + 1, device=batch.prompt.device)
        rank = splitmix64(targets).argsort().argsort()[self._problem(batch.prompt)[1] - self.min_target]
        return (rank // (len(targets) // 10)).clamp(max=TRAIN)

    def fingerprint(self, batch: Batch) -> Int[Tensor, " B"]:
        """Hash the numbers that are given, in any order, and the target."""
        numbers, target = self._problem(batch.prompt)
        game = torch.cat([numbers.sort(1)[0], target[:, None]], 1)
        return super().fingerprint(Batch(game, batch.answer))

    def text(self, prompt: Int[Tensor, " P"], answer: Int[Tensor, " A"]) -> str:
        """Return a row in the form of Ye et al."""
        numbers, target = self._problem(prompt[None])
        equations = self._solution(answer[None])[0].tolist()
        written = [f"{a}{_OPERATIONS[operation]}{b}={c}" for a, operation, b, c in equations]
        given = ",".join(map(str, [*numbers[0].tolist(), *target.tolist()]))
        return json.dumps({"input": given, "output": ",".join(written)})

    def parse(self, line: str) -> tuple[list[int], list[int]]:
        row = self._write(*(torch.tensor([numbers]) for numbers in self._read_line(line)))
        if outcome := self.check(row.prompt, row.answer).item():
            raise InputError(f"a wrong answer ({self.outcomes[int(outcome)]}); correct the output")
        prompt, answer = row.prompt[0], row.answer[0]
        return prompt[prompt != self.dummy].tolist(), answer[answer != self.dummy].tolist()

    def parse_all(self, lines: list[str]) -> Batch | None:
        try:
            columns = zip(*map(self._read_line, lines), strict=True)
        except InputError:
            return None
        rows = self._write(*map(torch.tensor, columns))
        return None if self.check(rows.prompt, rows.answer).any() else rows

    def _read_line(self, line: str) -> tuple[list[int], list[list[int]], list[int]]:
        """Return the numbers, the equations and the target of a line. The equations may be wrong."""
        try:
            row = json.loads(line)
            if not re.fullmatch(_NUMBERS, row["input"]) or not re.fullmatch(_EQUATIONS, row["output"]):
                raise ValueError
        except (ValueError, TypeError, KeyError, RecursionError):
            raise InputError(
                f'{line[:60]!r} is malformed; expected {{"input": "a,b,…,target", "output": "a-b=c,…"}}'
            ) from None
        *given, target = map(int, row["input"].split(","))
        equations = [re.split("([-+*/=])", equation) for equation in row["output"].split(",")]
        if (len(given), len(equations)) != (self.inputs, self._equations):
            raise InputError(
                f"{len(given)} numbers and {len(equations)} equations; expected {self.inputs} and "
                f"{self._equations} (task.inputs={self.inputs})"
            )
        if not self.min_target <= target <= self.max_target:
            raise InputError(
                f"target {target} is out of range; expected {self.min_target}…{self.max_target} "
                "(task.min_target, task.max_target)"
            )
        if max(given) > self.max_target:
            raise InputError(
                f"number {max(given)} is out of range; expected at most task.max_target={self.max_target}"
            )
        solution = [[int(a), _OPERATIONS.index(sign), int(b), int(c)] for a, sign, b, _, c in equations]
        if (most := max(map(max, solution))) > self.largest:
            raise InputError(f"number {most} is out of range; expected at most task.largest={self.largest}")
        return given, solution, [target]


def _choose(
    moves: Int[Tensor, "*B 4 4"], is_legal: Bool[Tensor, "*B 4"], draws: Draws
) -> Int[Tensor, "*B 4"]:
    """Draw one of the legal equations; the first one if none is."""
    rank = draws.below(is_legal.sum(-1), *is_legal.shape[:-1])
    drawn = (is_legal.cumsum(-1) > rank[..., None]).int().argmax(-1)
    return moves.gather(-2, drawn[..., None, None].expand(*drawn.shape, 1, 4))[..., 0, :]


def _spend(
    numbers: Int[Tensor, "B N"], number: Int[Tensor, " B"]
) -> tuple[Int[Tensor, "B N"], Bool[Tensor, " B"]]:
    """Put -1 in place of one occurrence of a number; return also which rows have one."""
    occurs = numbers == number[:, None]
    return numbers.masked_fill(occurs & (occurs.cumsum(1) == 1), -1), occurs.any(1)


@lru_cache(maxsize=16)  # a GPU would wait for the copy
def _pair_orders(count: int, device: str) -> Int[Tensor, "M N"]:
    """Return, for each ordered pair out of so many places, an order that begins with it."""
    places = range(count)
    orders = [[i, j, *(k for k in places if k not in (i, j))] for i, j in permutations(places, 2)]
    return torch.tensor(orders, device=device)


@lru_cache(maxsize=16)  # 10,000 names take a millisecond
def _vocabulary(numbers: int, has_end: bool) -> tuple[str, ...]:
    return (*map(str, range(numbers)), *_OPERATIONS, "=", ",", "|", *(("end",) if has_end else ()), "$")


@lru_cache(maxsize=64)
def _chances(
    inputs: int, largest: int, min_target: int, max_target: int, tokens: Literal["numbers", "digits"]
) -> tuple[float, float]:
    """Return the accuracy of the policy of `Countdown.chance`, of whole answers and on decisions."""
    task = Countdown(
        inputs=inputs, largest=largest, min_target=min_target, max_target=max_target, tokens=tokens
    )
    draws, (rows, few) = Draws(0, "countdown", "chance"), _CHANCE_ROWS
    batch = task.sample(rows, draws)
    numbers, target = task._problem(batch.prompt)
    left, _ = task._play(numbers, inputs - 2, draws)
    batch, shares = batch[:few], list[Tensor]()
    deciding = F.pad(task.decision_mask(batch), (0, 1))
    for place, written, agrees, is_legal, is_good in task._continuations(batch):
        # A pair of numbers has four equations, of which the legal ones are equally likely.
        per_pair = is_legal.view(few, -1, 4).double()
        weights = (per_pair / per_pair.sum(2, keepdim=True)).flatten(1)[:, :, None] * agrees
        right = agrees & is_good[:, :, None]
        hits = ((written[:, :, None] == written[:, None]) & right[:, None]).any(2)
        share = (weights * hits).sum(1) / weights.sum(1)
        shares.append(share[deciding.gather(1, place)])
    return task._can_reach(left, target).double().mean().item(), torch.cat(shares).mean().item()
