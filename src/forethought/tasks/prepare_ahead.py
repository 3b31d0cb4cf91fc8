"""A sum that may be asked for at the end: it pays a model that prepares the terms before."""

import re
from functools import lru_cache
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Bool, Int
from pydantic import Field
from torch import Tensor

from forethought.errors import Impossible, InputError
from forethought.tasks.base import Batch, Task
from forethought.tasks.draw import Draws
from forethought.validation import validated_dataclass

Terms = Literal["tokens", "products"]


@validated_dataclass
class PrepareAhead(Task):
    """Random numbers below m, then a question: a sum over the last numbers (`?`) or the last number (`.`).

    The sum is taken modulo m over the last k terms. m = 5, k = 3, n = 6:

        text     2,0,4,3,3,1?=4
        prompt   2 0 4 3 3 1 ?
        answer                 4               4·3 + 3·3 + 3·1 = 24, modulo 5

        text     2,0,4,3,3,1.=1
        prompt   2 0 4 3 3 1 .
        answer                 1               the last number

    With `terms=products`, the term at a number is its product with the number before it. The position that
    is asked holds no term of its own: a model of few layers must have the products ready at the numbers.
    A product does nothing for the number's own position, which carries no loss. Only the gradient of the
    later loss can teach it, which the objective `myopic` blocks. With `terms=tokens`, the control, the
    position that is asked adds up embeddings, and nothing is to be prepared.

    A position with enough heads can fetch the numbers and multiply them itself: `myopic` learns the task with
    4 heads, and with `window=2` or `modulus=3`. At the defaults, 625 prompts ask for a sum, and one in 16 is
    for the test: there, the commonest sum has 26 % and not 23 %.

    Source: Wu et al., "Do Language Models Plan Ahead for Future Tokens?" (2404.00859), the synthetic data
    D_p. There each number is real, each position is asked with probability p for Σ sin(10 x) over the ten
    numbers before it and else for its own number, and the loss is a regression. With tokens, a function of
    one number is a look-up in the embedding; hence the products here.

    Args:
        modulus: the numbers are 0 … m - 1.
        window: number of terms k in the sum.
        length: number of numbers n in the prompt.
        terms: `tokens`: a term is a number. `products`: the product of a number and the one before it.
        asked_share: probability p that a row asks for the sum.

    Raises:
        Impossible: the prompt has fewer numbers than the terms need.
    """

    modulus: int = Field(default=5, ge=2, le=100)
    window: int = Field(default=3, ge=1, le=100)
    length: int = Field(default=4, ge=1, le=1000)
    terms: Terms = "products"
    asked_share: Annotated[float, Field(gt=0, le=1)] = 0.5

    outcomes: ClassVar = ("right", "last", "other")

    def __post_init__(self) -> None:
        least = self.window + (self.terms == "products")
        if self.length < least:
            raise Impossible(
                f"task.length={self.length}: {self.window} terms of task.terms={self.terms} "
                f"(task.window={self.window}) take {least} numbers; use at least {least}"
            )

    @property
    def vocabulary(self) -> tuple[str, ...]:
        return (*map(str, range(self.modulus)), "?", ".", "$")

    @property
    def prompt_length(self) -> int:
        return self.length + 1

    @property
    def answer_length(self) -> int:
        return 1

    @property
    def chance(self) -> float:
        """Accuracy of a policy that copies the last number, and answers `?` with the commonest sum."""
        return self.asked_share * self.decision_chance + 1 - self.asked_share

    @property
    def decision_chance(self) -> float:
        return _commonest_sum(self.modulus, self.window, self.terms)

    @property
    def needs_plan(self) -> bool:
        return self.terms == "products"

    def sample(self, count: int, draws: Draws) -> Batch:
        numbers = draws.integers(self.modulus, count, self.length)
        asked = draws.chosen(self.asked_share, count, 1)
        prompt = torch.cat([numbers, self.modulus + 1 - asked.long()], 1)
        return Batch(prompt, self._gold(prompt))

    def _asked(self, prompt: Int[Tensor, "B P"]) -> Bool[Tensor, "B 1"]:
        return prompt[:, -1:] == self.modulus

    def _gold(self, prompt: Int[Tensor, "B P"]) -> Int[Tensor, "B 1"]:
        terms = prompt[:, :-1]
        if self.terms == "products":
            terms = terms[:, 1:] * terms[:, :-1]
        total = terms[:, -self.window :].sum(1, keepdim=True) % self.modulus
        return total.where(self._asked(prompt), prompt[:, -2:-1])

    def check(self, prompt: Int[Tensor, "B P"], answer: Int[Tensor, "B 1"]) -> Int[Tensor, " B"]:
        """Return the outcome of each answer.

        * `last`: the row asks for the sum, and the answer is the last number.
        """
        outcome = torch.full_like(answer, self.outcomes.index("other"))
        outcome = outcome.masked_fill(answer == prompt[:, -2:-1], self.outcomes.index("last"))
        return outcome.masked_fill(answer == self._gold(prompt), 0)[:, 0]

    def decision_mask(self, batch: Batch) -> Bool[Tensor, "B 1"]:
        return self._asked(batch.prompt)

    def strata(self, batch: Batch) -> dict[str, Int[Tensor, " B"]]:
        """Return 1 for the rows that ask for the sum."""
        return {"asked": self._asked(batch.prompt)[:, 0].long()}

    @property
    def strata_sizes(self) -> dict[str, int]:
        return {"asked": 2}

    def text(self, prompt: Int[Tensor, " P"], answer: Int[Tensor, " 1"]) -> str:
        *numbers, sign, total = (self.vocabulary[token] for token in torch.cat([prompt, answer]).tolist())
        return f"{','.join(numbers)}{sign}={total}"

    def parse(self, line: str) -> tuple[list[int], list[int]]:
        form = re.fullmatch(r"([0-9]{1,3}(?:,[0-9]{1,3})*)([?.])=([0-9]{1,3})", line)
        numbers = [int(number) for number in form[1].split(",")] if form else []
        if form is None or len(numbers) != self.length or max(numbers) >= self.modulus:
            raise InputError(
                f"{line[:60]!r} is malformed; expected {self.length} numbers from 0 to {self.modulus - 1} "
                f"(task.length={self.length}, task.modulus={self.modulus}) as in 1,0,1?=1 or 1,0,1.=1"
            )
        prompt, answer = [*numbers, self.vocabulary.index(form[2])], [int(form[3])]
        if self.check(torch.tensor([prompt]), torch.tensor([answer])).item():
            raise InputError(f"{line[:60]!r} has a wrong answer; correct it")
        return prompt, answer


@lru_cache(maxsize=64)
def _commonest_sum(modulus: int, window: int, terms: Terms) -> float:
    """Return the probability of the likeliest sum, by dynamic programming over the last number and the sum.

    The order of the numbers may be reversed: each term but one multiplies a number with the next.
    """
    if terms == "tokens":
        return 1 / modulus
    number = torch.arange(modulus)
    # Before the last of `place` numbers is multiplied with the next one, the sum was smaller by a product.
    before = (number - number[:, None, None] * number[:, None]) % modulus  # (next number, number, sum)
    shares = torch.zeros(modulus, modulus, dtype=torch.float64)  # (number, sum)
    shares[:, 0] = 1 / modulus
    for _ in range(window):
        shares = shares.expand(modulus, -1, -1).gather(2, before).sum(1) / modulus
    return shares.sum(0).max().item()
