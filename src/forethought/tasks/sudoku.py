"""Sudoku: a grid is written cell by cell, while many cells follow only from cells further on."""

import re
from functools import lru_cache
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from pydantic import Field
from torch import Tensor

from forethought.errors import Impossible, InputError
from forethought.tasks.base import Batch, Task
from forethought.tasks.draw import Draws
from forethought.tasks.graph import first_outcome
from forethought.tasks.sudoku_grids import add_singles, draw_grids, peers
from forethought.validation import validated_dataclass

_GIVENS = {2: (4, 6), 3: (30, 40)}
"""Default range of the number of givens."""

_NEEDED = {2: 9, 3: 44}
"""Most givens that are placed one after another. Hardly a puzzle needs as many."""

_ROUNDS = 2
"""Rounds of singles after each given."""

_CHANCE_ROWS = {2: 1 << 13, 3: 1 << 11}
"""Rows from which `chance` is estimated. Its standard error is at most 0.004."""


@validated_dataclass
class Sudoku(Task):
    """Completion of a Sudoku of N × N cells in boxes of n × n, with N = n². N = 4:

        text     0020010010030402,4321213412433412
        prompt   0 0 2 0  0 1 0 0  1 0 0 3  0 4 0 2 =
        answer   4 3 2 1  2 1 3 4  1 2 4 3  3 4 1 2      loss on all of these
                 ^            ^                          the decisions: 4 or 3?

    The prompt holds the grid in reading order, with `0` for a blank, and `=`; the answer is the whole solved
    grid. A puzzle has one solution, so that all right answers are one.

    A blank is a *decision* if its row, column and box leave several digits open, given the prompt and the
    true cells before it. Only cells that are written later tell which digit it is.

    Grids: a fixed grid, with its rows, columns and digits exchanged at random, takes 40 steps of a random
    walk. Each step swaps two digits in a random part of the grid in which they can be swapped. For 4×4, the
    288 grids are equally frequent. For 9×9 they are not: the walk alone would be uniform over the grids
    that it reaches, but needs hundreds of steps to forget the first one.

    Puzzles: cells become givens one after another, each at random among those that two rounds of singles do
    not fill after each, until no cell is left. A *single* is the only digit open in a cell, or the only cell
    open for a digit in a row, column or box. Further givens are added at random, up to a number that is
    uniform over `min_givens` … `max_givens`; a puzzle that needs more keeps more (in 4×4 up to 8, in 9×9
    most often 34, seldom 40). Singles fill all puzzles of 4×4 that have one solution, but not all of 9×9:
    harder ones come from files. A CPU core draws 10,000 puzzles of 4×4 a second, or 1,200 of 9×9.

    A puzzle is held out, and not its grid: 4×4 has 288 grids, and all of them occur in training.

    Source: Ye et al., "Beyond Autoregression" (2410.14157), §4: 9×9, 81 + 81 tokens and two marks, right if
    every cell is. Their puzzles are files `quizzes,solutions`, which `train_file` and `test_file` read.

    Args:
        box: rows and columns of a box (n), 2 or 3.
        min_givens: the fewest givens of a puzzle that needs no more; None: 4 (4×4) or 30 (9×9).
        max_givens: the most givens of a puzzle that needs no more; None: 6 or 40.

    Raises:
        Impossible: `max_givens` is below `min_givens`, or leaves no blank.
    """

    box: Literal[2, 3] = 2
    min_givens: Annotated[int, Field(ge=0)] | None = None
    max_givens: Annotated[int, Field(ge=0)] | None = None

    outcomes: ClassVar = ("right", "dead_end", "broken_rule", "wrong_given", "other")
    header: ClassVar = "quizzes,solutions"

    def __post_init__(self) -> None:
        low, high = self._range
        if not low <= high < self._cells:
            raise Impossible(
                f"task.min_givens={low}, task.max_givens={high}: expected task.min_givens ≤ task.max_givens, "
                f"and at most {self._cells - 1}, one less than the cells (task.box={self.box})"
            )

    @property
    def _range(self) -> tuple[int, int]:
        low, high = _GIVENS[self.box]
        return (
            low if self.min_givens is None else self.min_givens,
            high if self.max_givens is None else self.max_givens,
        )

    @property
    def _size(self) -> int:
        return self.box**2

    @property
    def _cells(self) -> int:
        return self.box**4

    @property
    def vocabulary(self) -> tuple[str, ...]:
        return (*map(str, range(self._size + 1)), "=", "$")

    @property
    def prompt_length(self) -> int:
        return self._cells + 1

    @property
    def answer_length(self) -> int:
        return self._cells

    @property
    def chance(self) -> float:
        """Accuracy of a policy that writes in each cell a random digit that breaks no rule so far.

        Estimated from rows with a fixed seed. A policy that is free to fill the cells in another order may
        begin with those in which one digit is open, and needs fewer guesses or none.
        """
        return _chances(self.box, *self._range)[0]

    @property
    def decision_chance(self) -> float:
        return _chances(self.box, *self._range)[1]

    def sample(self, count: int, draws: Draws) -> Batch:
        digits = draw_grids(self.box, count, draws)
        low, high = self._range
        wanted = low + draws.integers(high - low + 1, count, 1)
        rank = draws.permutation(count, self._cells)
        given = self._needed(digits, rank)
        # Givens first, then the other cells by rank.
        place = rank.masked_fill(given, -1).argsort(1).argsort(1)
        blank = ~given & (place >= wanted)
        equals = torch.full_like(wanted, self._size + 1)
        return Batch(torch.cat([digits.masked_fill(blank, 0), equals], 1), digits)

    def _needed(self, digits: Int[Tensor, "B C"], rank: Int[Tensor, "B C"]) -> Bool[Tensor, "B C"]:
        """Return givens from which singles fill the grid, each not filled by those of a smaller rank."""
        known = given = torch.zeros_like(digits, dtype=torch.bool)
        for _ in range(_NEEDED[self.box]):
            first = rank.masked_fill(known, self._cells).argmin(1, keepdim=True)
            new = torch.zeros_like(known).scatter(1, first, ~known.all(1, keepdim=True))
            given, known = given | new, known | new
            for _ in range(_ROUNDS):
                known = add_singles(self.box, digits, known)
        return given | ~known

    def _open(self, prompt: Int[Tensor, "B P"], answer: Int[Tensor, "B C"]) -> Bool[Tensor, "B C N"]:
        """Return which digits break no rule in each cell, given the prompt and the cells before it."""
        given, place = prompt[:, :-1], torch.arange(self._cells, device=prompt.device)
        seen = torch.zeros_like(given)
        for peer in peers(self.box, str(prompt.device)):
            seen |= 1 << given[:, peer] | (1 << answer[:, peer]) * (peer < place)
        digit = torch.arange(1, self._size + 1, device=prompt.device)
        return (seen[:, :, None] >> digit & 1) == 0

    def check(self, prompt: Int[Tensor, "B P"], answer: Int[Tensor, "B C"]) -> Int[Tensor, " B"]:
        """Return the outcome of each grid.

        Any grid that keeps the givens and the rules is right, also where a puzzle of a file has several.

        * `dead_end`: the first digit that breaks a rule stands where each digit breaks one: the fault lies
          in a digit before, which broke none.
        * `broken_rule`: the first digit that breaks a rule stands where another one would not.
        * `wrong_given`: a given has changed.
        * `other`: a token is not a digit from 1 to N.
        """
        is_digit = (answer >= 1) & (answer <= self._size)
        is_open = self._open(prompt, answer)
        keeps = is_open.gather(2, (answer.clamp(1, self._size) - 1)[:, :, None])[:, :, 0]
        first = (~keeps).int().argmax(1)[:, None]
        stuck = ~is_open.any(2).gather(1, first)[:, 0]
        changed = (prompt[:, :-1] > 0) & (prompt[:, :-1] != answer)
        formed, kept = is_digit.all(1), ~changed.any(1)
        kinds = [formed & kept & keeps.all(1), formed & kept & stuck, formed & kept, formed]
        return first_outcome(kinds, self.outcomes.index("other"))

    def decision_mask(self, batch: Batch) -> Bool[Tensor, "B C"]:
        """Mark the blanks in which several digits are open after the true cells before."""
        return (batch.prompt[:, :-1] == 0) & (self._open(batch.prompt, batch.answer).sum(2) > 1)

    def strata(self, batch: Batch) -> dict[str, Int[Tensor, " B"]]:
        return {"givens": (batch.prompt[:, :-1] > 0).sum(1)}

    @property
    def strata_sizes(self) -> dict[str, int]:
        return {"givens": self._cells + 1}

    def text(self, prompt: Int[Tensor, " P"], answer: Int[Tensor, " C"]) -> str:
        """Return the puzzle and its solution, `0` for a blank: `0030…,1234…`."""
        return ",".join("".join(map(str, grid.tolist())) for grid in (prompt[:-1], answer))

    def parse_all(self, lines: list[str]) -> Batch | None:
        cells, text = self._cells, "".join(lines)
        if {*map(len, lines)} != {2 * cells + 1} or not text.isascii():
            return None
        codes = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8).long().view(len(lines), -1)
        digits = codes - ord("0")
        given, answer = digits[:, :cells], digits[:, cells + 1 :]
        if (codes[:, cells] != ord(",")).any() or ((given < 0) | (given > self._size)).any():
            return None
        prompt = F.pad(given, (0, 1), value=self._size + 1)
        if ((answer < 1) | (answer > self._size)).any() or self.check(prompt, answer).any():
            return None
        return Batch(prompt, answer)

    def parse(self, line: str) -> tuple[list[int], list[int]]:
        n, cells = self._size, self._cells
        if not re.fullmatch(f"[0-{n}]{{{cells}}},[1-{n}]{{{cells}}}", line):
            raise InputError(
                f"{line[:60]!r} is malformed; expected a puzzle and its solution, {cells} digits each, with "
                f"0 for a blank: 0034…,1234… (task.box={self.box})"
            )
        rows = self.parse_all([line])
        if rows is None:
            raise InputError(
                f"{line[:60]!r} has a wrong solution: a digit occurs twice in a row, a column or a box, or a "
                "given has changed; correct it"
            )
        return rows.prompt[0].tolist(), rows.answer[0].tolist()


@lru_cache(maxsize=16)
def _chances(box: Literal[2, 3], low: int, high: int) -> tuple[float, float]:
    """Return the accuracy of the policy of `Sudoku.chance`, on whole grids and on decisions.

    An answer is right if each guess is, and then the cells before each guess are the true ones.
    """
    task = Sudoku(box=box, min_givens=low, max_givens=high)
    batch = task.sample(_CHANCE_ROWS[box], Draws(0, "sudoku", "chance"))
    counts = task._open(batch.prompt, batch.answer).sum(2).masked_fill(batch.prompt[:, :-1] > 0, 1)
    shares = 1 / counts.double()
    return shares.prod(1).mean().item(), shares[counts > 1].mean().item()
