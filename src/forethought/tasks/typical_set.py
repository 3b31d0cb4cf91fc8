"""A chain of symbols with known probabilities, whose most likely answer is a loop that hardly ever occurs."""

import math
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from forethought.errors import Impossible, InputError
from forethought.tasks.base import Batch
from forethought.tasks.continuation import Continuation
from forethought.tasks.draw import Draws
from forethought.validation import validated_dataclass

_UNIT = 1 << 24  # of `Draws.chosen`


@validated_dataclass
class TypicalSet(Continuation):
    """Continuation of a Markov chain, which is right if it is about as likely as the chain's text is.

    The symbols are `a` (the loop) and b1 … bV. After any symbol, `a` follows with probability p, else one of
    k successors, uniformly: b(i+1) … b(i+k) after bi, cyclically, and b1 … bk after `a`. With V = 12, k = 6:

        text     b3 b8 a b2 / b7 b9 a b1 b5 b10 a a b4 b9 b12 b2 a b3 b8 a
        prompt   b3 b8 a b2
        answer   b7 b9 a b1 …       loss on all 16; no token decides

    As p > (1 - p)/k, `a` is the most likely symbol everywhere, and `a a a …` the most likely answer. By
    default, its probability is 4e-9. The logarithm of an answer's probability depends only on its number n
    of `a` among A symbols. Its surprisal per symbol, less the chain's entropy per symbol, is

        (p - n/A) · log(p k / (1 - p))      in nats

    An answer is right if this is within `tolerance` of 0: if the answer lies in the typical set, which by
    default has 99 % of the probability. Greedy decoding and beam search of a perfect model write the loop.
    Sampling at temperature 1 writes typical answers.

    A prompt begins after a random one of b1 … bV. Rows are divided into parts by their prompts, so that the
    answers of each part follow the chain.

    Source: Cover & Thomas, "Elements of Information Theory", 2nd ed., §3.1, for the typical set.

    Args:
        symbols: number V of symbols beside `a`.
        branching: number k of symbols that may follow a symbol, beside `a`.
        loop_probability: probability p of `a`, rounded to a multiple of 2^-24.
        prompt_symbols: symbols of a prompt.
        answer_symbols: symbols of an answer (A).
        tolerance: half the width of the typical set, in nats per symbol.

    Raises:
        Impossible: a symbol has more successors than there are symbols; `a` is not the most likely symbol
            everywhere; no answer is typical, or the loop is.
    """

    symbols: int = Field(default=12, ge=1, le=100)
    branching: int = Field(default=6, ge=1)
    loop_probability: float = Field(default=0.3, gt=0, le=0.99)
    prompt_symbols: int = Field(default=4, ge=1, le=1000)
    answer_symbols: int = Field(default=16, ge=1, le=1000)
    tolerance: float = Field(default=0.25, gt=0)

    outcomes: ClassVar = ("right", "loop", "likely", "unlikely", "impossible")

    def __post_init__(self) -> None:
        if self.branching > self.symbols:
            raise Impossible(
                f"task.branching={self.branching}: out of range for task.symbols={self.symbols}; "
                f"use at most {self.symbols}"
            )
        if self._loop <= self._step:
            raise Impossible(
                f"task.loop_probability={self.loop_probability}: the loop is not the most likely symbol with "
                f"task.branching={self.branching}; use a value above 1/{self.branching + 1}"
            )
        *others, loop = (abs(self._excess(count)) for count in range(self.answer_symbols + 1))
        least = min(others)
        if least >= loop:
            raise Impossible(
                f"task.answer_symbols={self.answer_symbols}: the loop is the most typical answer with "
                f"task.loop_probability={self.loop_probability}; use more than {0.5 / (1 - self._loop):.1f}"
            )
        if not least <= self.tolerance < loop:
            raise Impossible(
                f"task.tolerance={self.tolerance}: out of range for task.loop_probability="
                f"{self.loop_probability}, task.branching={self.branching} and task.answer_symbols="
                f"{self.answer_symbols}; use at least {least:.4f}, so that an answer is typical, and below "
                f"{loop:.4f}, so that the loop is not"
            )

    @property
    def _loop(self) -> float:
        return round(self.loop_probability * _UNIT) / _UNIT

    @property
    def _step(self) -> float:
        """Probability of each symbol but `a` that may follow."""
        return (1 - self._loop) / self.branching

    def _excess(self, loops: int) -> float:
        """Return the surprisal of an answer with so many `a`, less the entropy, in nats per symbol."""
        return (self._loop - loops / self.answer_symbols) * math.log(self._loop / self._step)

    @property
    def _typical(self) -> range:
        """The numbers of `a` in typical answers."""
        numbers = range(self.answer_symbols + 1)
        typical = [loops for loops in numbers if abs(self._excess(loops)) <= self.tolerance]
        return range(typical[0], typical[-1] + 1)

    @property
    def vocabulary(self) -> tuple[str, ...]:
        return ("a", *(f"b{number}" for number in range(1, self.symbols + 1)), "$")

    @property
    def prompt_length(self) -> int:
        return self.prompt_symbols

    @property
    def answer_length(self) -> int:
        return self.answer_symbols

    @property
    def chance(self) -> float:
        """Probability of the typical set: the accuracy of a policy that samples symbol by symbol.

        Each symbol is drawn from the chain. There is nothing to plan.
        """
        length, p = self.answer_symbols, self._loop
        return sum(math.comb(length, n) * p**n * (1 - p) ** (length - n) for n in self._typical)

    def sample(self, count: int, draws: Draws) -> Batch:
        length = self.prompt_symbols + self.answer_symbols
        before = draws.integers(self.symbols, count, 1)
        is_loop = draws.chosen(self._loop, count, length)
        steps = 1 + draws.integers(self.branching, count, length)
        # After `a`, the steps are counted from 0 again: from their number at the last `a` so far.
        place = before + steps.masked_fill(is_loop, 0).cumsum(1)
        place = place - place.where(is_loop, 0).cummax(1)[0]
        symbols = torch.where(is_loop, 0, (place - 1) % self.symbols + 1)
        return Batch(symbols[:, : self.prompt_symbols], symbols[:, self.prompt_symbols :])

    def _transitions(self, device: torch.device) -> Float[Tensor, "V V"]:
        """Return the probability of each token (column) after each token (row), in float64."""
        size = len(self.vocabulary)
        token = torch.arange(size, device=device)
        follows = (token - token[:, None] - 1) % self.symbols < self.branching
        probabilities = torch.zeros(size, size, dtype=torch.float64, device=device)
        probabilities.masked_fill_(follows, self._step)
        probabilities[:, 0] = self._loop
        probabilities[:, self.dummy] = probabilities[self.dummy] = 0
        return probabilities

    def _probabilities(
        self, prompt: Int[Tensor, "B P"], answer: Int[Tensor, "B A"]
    ) -> Float[Tensor, "B A V"]:
        """Return the probability of each token at each position after the tokens before it."""
        before = torch.cat([prompt[:, -1:], answer[:, :-1]], 1)
        return self._transitions(answer.device)[before]

    def next_probabilities(self, batch: Batch) -> Float[Tensor, "B A V"]:
        return self._probabilities(batch.prompt, batch.answer)

    def accepted(self, batch: Batch) -> Bool[Tensor, "B A V"]:
        """Return all symbols that may follow. `targets` is None: as on real text, training reads samples."""
        return self.next_probabilities(batch) > 0

    def log_probability(self, prompt: Int[Tensor, "B P"], answer: Int[Tensor, "B A"]) -> Float[Tensor, " B"]:
        of_tokens = self._probabilities(prompt, answer).gather(2, answer[..., None])
        return of_tokens.log().sum((1, 2))

    def named_answers(self, batch: Batch) -> dict[str, Int[Tensor, "B A"]]:
        return {"loop": torch.zeros_like(batch.answer)}

    def check(self, prompt: Int[Tensor, "B P"], answer: Int[Tensor, "B A"]) -> Int[Tensor, " B"]:
        """Return the outcome of each answer.

        * `loop`: `a` alone.
        * `likely`: more likely than the typical set, but not the loop.
        * `unlikely`: less likely than the typical set.
        * `impossible`: a symbol follows that has no probability.
        """
        loops = (answer == 0).sum(1)
        outcome = torch.zeros_like(loops)
        for name, is_kind in (
            ("likely", loops > self._typical[-1]),
            ("unlikely", loops < self._typical[0]),
            ("loop", loops == self.answer_symbols),
            ("impossible", self.log_probability(prompt, answer) == -torch.inf),
        ):
            outcome = outcome.masked_fill(is_kind, self.outcomes.index(name))
        return outcome

    def text(self, prompt: Int[Tensor, " P"], answer: Int[Tensor, " A"]) -> str:
        sides = ([self.vocabulary[token] for token in side.tolist()] for side in (prompt, answer))
        return " / ".join(map(" ".join, sides))

    def parse(self, line: str) -> tuple[list[int], list[int]]:
        names = self.vocabulary[: self.dummy]
        sides = [side.split(" ") for side in line.split(" / ")]
        lengths = [self.prompt_symbols, self.answer_symbols]
        if [*map(len, sides)] != lengths or not {*sides[0], *sides[-1]} <= {*names}:
            raise InputError(
                f"{line[:40]!r} is malformed; expected {lengths[0]} symbols, ' / ' and {lengths[1]} symbols "
                f"of a, b1 … b{self.symbols} (task.prompt_symbols, task.answer_symbols, task.symbols)"
            )
        prompt, answer = ([names.index(name) for name in side] for side in sides)
        chain = torch.tensor([prompt + answer])
        of_tokens = self._probabilities(chain[:, :1], chain[:, 1:])[0]
        for probabilities, before, after in zip(of_tokens, chain[0, :-1], chain[0, 1:], strict=True):
            if probabilities[after] == 0:
                follow = ", ".join(names[token] for token in probabilities.nonzero()[:, 0].tolist())
                raise InputError(
                    f"{names[after]} does not follow {names[before]} in the chain of task.symbols="
                    f"{self.symbols} and task.branching={self.branching}; expected one of {follow}"
                )
        return prompt, answer
