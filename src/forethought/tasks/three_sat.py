"""Satisfiability of random clauses of three literals: find an assignment that satisfies all of them."""

import re
from functools import lru_cache
from itertools import combinations
from math import comb
from typing import ClassVar

import torch
from jaxtyping import Bool, Int
from pydantic import Field
from torch import Tensor

from forethought.errors import Impossible, InputError
from forethought.tasks.base import Batch, Task
from forethought.tasks.draw import Draws, splitmix64
from forethought.tasks.graph import first_outcome
from forethought.validation import validated_dataclass

_LITERAL = "-?[0-9]{1,2}"
_CLAUSE = f"{_LITERAL},{_LITERAL},{_LITERAL}"
_LINE = rf"{_CLAUSE}(\|{_CLAUSE})*={_LITERAL}(,{_LITERAL})*"

_MOST_SOLUTIONS = 4
"""The last stratum has this many solutions or more."""

_CHANCE_ROWS = 1 << 13, 1000
"""Rows from which `chance` and `decision_chance` are estimated. Their standard errors are below 0.008."""


@validated_dataclass
class ThreeSat(Task):
    """Assignment that satisfies a 3-CNF, in the order of the variables. variables = 4, clauses = 5:

        text     1,-2,4|-1,2,3|-1,-3,-4|2,3,-4|1,-3,4=1,2,-3,-4
        prompt   1 -2 4 | -1 2 3 | -1 -3 -4 | 2 3 -4 | 1 -3 4 =
        answer                                                    1 2 -3 -4      loss on all four

    A clause is satisfied if the answer holds one of its literals. Every assignment that satisfies all clauses
    is right, and all assignments to a formula are equally likely to be its answer. In the stratum
    `solutions`, they are counted up to 4, which stands for four and more.

    The clauses are distinct and in random order. First the answer is drawn, then clauses that it satisfies.
    So a formula is drawn the more often the more assignments satisfy it.

    A local rule predicts the tokens that one clause forces, as its two other literals are false. All other
    tokens are decisions. `chance` is high, as the answer makes four of seven literals true: a policy that
    takes the more frequent literal of each variable gets far with little planning.

    What differs from the source: its code scores the exact match with one assignment, although others may
    satisfy the formula.

    Source: Ye et al., "Beyond Autoregression: Discrete Diffusion for Complex Reasoning and Planning"
    (2410.14157), §4: 5, 7 and 9 variables. The lengths of its rows (258, 285 and 325 characters) suggest
    about 41, 46 and 52 clauses.

    Args:
        variables: number n of variables.
        clauses: number of clauses.

    Raises:
        Impossible: an assignment satisfies less than `clauses` of the clauses on so few variables.
    """

    variables: int = Field(default=5, ge=3, le=12)
    clauses: int = Field(default=21, ge=1, le=1000)

    outcomes: ClassVar = ("right", "unsatisfied", "malformed")

    def __post_init__(self) -> None:
        most = 7 * comb(self.variables, 3)
        if self.clauses > most:
            raise Impossible(
                f"task.clauses={self.clauses}: too many for task.variables={self.variables}; "
                f"expected at most {most}, which is all that one assignment satisfies"
            )

    @property
    def vocabulary(self) -> tuple[str, ...]:
        names = range(1, self.variables + 1)
        return (*(f"{name}" for name in names), *(f"-{name}" for name in names), "|", "=", "$")

    @property
    def prompt_length(self) -> int:
        return 4 * self.clauses

    @property
    def answer_length(self) -> int:
        return self.variables

    @property
    def chance(self) -> float:
        """Accuracy of a policy that takes what one clause forces, else the literal of more open clauses.

        A clause is open until one of its literals is true. Between equals, the policy flips a coin. It never
        looks at two clauses together. Estimated from rows with a fixed seed.
        """
        return _chances(self.variables, self.clauses)[0]

    @property
    def decision_chance(self) -> float:
        return _chances(self.variables, self.clauses)[1]

    def sample(self, count: int, draws: Draws) -> Batch:
        n = self.variables
        answer = torch.arange(n, device=draws.device) + n * draws.integers(2, count, n)
        triples = _triples(n, str(draws.device))
        # A clause is three variables, and a number from 1 to 7: the bits of its true literals.
        drawn = draws.permutation(count, 7 * len(triples), self.clauses)
        literals = answer.gather(1, triples[drawn // 7].flatten(1)).view(count, -1, 3)
        is_true = (1 + drawn % 7)[:, :, None] >> torch.arange(3, device=answer.device) & 1
        return self._batch(literals.where(is_true > 0, self._negate(literals)), answer)

    def _batch(self, clauses: Int[Tensor, "B C 3"], answer: Int[Tensor, "B N"]) -> Batch:
        marks = torch.full_like(clauses[:, :, :1], 2 * self.variables)
        marks[:, -1] += 1
        return Batch(torch.cat([clauses, marks], 2).flatten(1), answer)

    def _negate(self, literals: Int[Tensor, "*B"]) -> Int[Tensor, "*B"]:
        return (literals + self.variables) % (2 * self.variables)

    def _clauses(self, prompt: Int[Tensor, "B P"]) -> Int[Tensor, "B C 3"]:
        return prompt.view(len(prompt), -1, 4)[:, :, :3]

    def check(self, prompt: Int[Tensor, "B P"], answer: Int[Tensor, "B A"]) -> Int[Tensor, " B"]:
        """Return the outcome of each assignment.

        * `unsatisfied`: some clause has no true literal.
        * `malformed`: not one literal of each variable, in order.
        """
        n, clauses = self.variables, self._clauses(prompt)
        is_formed = ((answer < 2 * n) & (answer % n == torch.arange(n, device=answer.device))).all(1)
        chosen = answer.gather(1, (clauses % n).flatten(1)).view_as(clauses)
        satisfied = (chosen == clauses).any(2).all(1)
        return first_outcome([is_formed & satisfied, is_formed], self.outcomes.index("malformed"))

    def _solutions(self, prompt: Int[Tensor, "B P"]) -> Bool[Tensor, "B M"]:
        """Return which of the M = 2^n assignments satisfy the formula. The first variable is the highest bit.

        A bit of 0 is the positive literal.
        """
        places = torch.arange(self.variables - 1, -1, -1, device=prompt.device)
        assignments = torch.arange(1 << self.variables, device=prompt.device)
        is_negative = (assignments >> places[:, None] & 1) > 0
        is_true = torch.cat([~is_negative, is_negative])
        satisfied = torch.ones_like(is_true[:1]).repeat(len(prompt), 1)
        for clause in self._clauses(prompt).unbind(1):  # one by one, to save memory
            satisfied &= is_true[clause].any(1)
        return satisfied

    def accepted(self, batch: Batch) -> Bool[Tensor, "B A V"]:
        """Return the literals after which the formula can still be satisfied, by a search through all."""
        n, left = self.variables, self._solutions(batch.prompt)
        accepted = left.new_zeros(len(left), n, len(self.vocabulary))
        row = torch.arange(len(left), device=left.device)
        for place in range(n):
            left = left.view(len(left), 2, -1)
            accepted[:, place, [place, n + place]] = left.any(2)
            left = left[row, batch.answer[:, place] // n]
        return accepted

    def _look(
        self, clauses: Int[Tensor, "B C 3"], assigned: Int[Tensor, "B K"]
    ) -> tuple[Bool[Tensor, "B 2"], Int[Tensor, "B 2"]]:
        """Look at each clause alone, for the variable after K assigned ones, as its two literals.

        Return which of them a clause forces, and in how many clauses each occurs that are not yet true.
        """
        n, known = self.variables, assigned.shape[1]
        variable = (clauses % n).flatten(1).clamp(max=max(known - 1, 0))
        is_known = clauses % n < known
        chosen = assigned.gather(1, variable).view_as(clauses) if known else clauses
        is_open = ~((chosen == clauses) & is_known).any(2)
        literals = known + n * torch.arange(2, device=clauses.device)
        occurs = (clauses[..., None] == literals).any(2) & is_open[:, :, None]
        is_unit = (is_known.sum(2) == 2)[:, :, None]
        return (occurs & is_unit).any(1), occurs.sum(1)

    def decision_mask(self, batch: Batch) -> Bool[Tensor, "B A"]:
        """Mark the literals that no single clause forces, after the true ones."""
        clauses = self._clauses(batch.prompt)
        forced = [self._look(clauses, batch.answer[:, :place])[0] for place in range(self.variables)]
        return ~torch.stack(forced, 1).any(2)

    def strata(self, batch: Batch) -> dict[str, Int[Tensor, " B"]]:
        return {"solutions": self._solutions(batch.prompt).sum(1).clamp(max=_MOST_SOLUTIONS)}

    @property
    def strata_sizes(self) -> dict[str, int]:
        return {"solutions": _MOST_SOLUTIONS + 1}

    def fingerprint(self, batch: Batch) -> Int[Tensor, " B"]:
        """Hash the set of clauses alone, in any order."""
        first, second, third = self._clauses(batch.prompt).sort(2)[0].unbind(2)
        size = 2 * self.variables
        return splitmix64(splitmix64((first * size + second) * size + third + 1).sum(1))

    def text(self, prompt: Int[Tensor, " P"], answer: Int[Tensor, " A"]) -> str:
        """Return `a,b,c|…=1,-2,…`."""
        groups = [*self._clauses(prompt[None])[0], answer]
        *clauses, assignment = (",".join(self.names(group)) for group in groups)
        return f"{'|'.join(clauses)}={assignment}"

    def parse(self, line: str) -> tuple[list[int], list[int]]:
        row = self._batch(*(torch.tensor([literals]) for literals in self._read_line(line)))
        if outcome := self.check(row.prompt, row.answer).item():
            raise InputError(f"a wrong answer ({self.outcomes[int(outcome)]}); correct the assignment")
        return row.prompt[0].tolist(), row.answer[0].tolist()

    def parse_all(self, lines: list[str]) -> Batch | None:
        try:
            columns = zip(*map(self._read_line, lines), strict=True)
        except InputError:
            return None
        rows = self._batch(*map(torch.tensor, columns))
        return None if self.check(rows.prompt, rows.answer).any() else rows

    def _read_line(self, line: str) -> tuple[list[list[int]], list[int]]:
        """Return the clauses and the assignment of a line. The assignment may be wrong."""
        if not re.fullmatch(_LINE, line):
            raise InputError(f"{line[:60]!r} is malformed; expected a,b,c|…=1,-2,…, a clause for each a,b,c")
        n, known = self.variables, dict(zip(self.vocabulary, range(2 * self.variables), strict=False))
        for literal in re.findall(_LITERAL, line):
            if literal not in known:
                raise InputError(
                    f"literal {literal} is out of range; expected 1…{n} or -1…-{n} (task.variables={n})"
                )
        formula, assignment = line.split("=")
        clauses, answer = (
            [[known[literal] for literal in part.split(",")] for part in parts]
            for parts in (formula.split("|"), [assignment])
        )
        if len(clauses) != self.clauses or len(answer[0]) != n:
            raise InputError(
                f"{len(clauses)} clauses and {len(answer[0])} literals after them; expected {self.clauses} "
                f"and {n} (task.clauses, task.variables)"
            )
        if any(len({literal % n for literal in clause}) < 3 for clause in clauses):
            raise InputError("a clause names a variable twice; expected three variables in each")
        if len({frozenset(clause) for clause in clauses}) < len(clauses):
            raise InputError("a clause is listed twice; delete one of the two")
        return clauses, answer[0]


@lru_cache(maxsize=16)  # a GPU would wait for the copy
def _triples(variables: int, device: str) -> Int[Tensor, "M 3"]:
    return torch.tensor([*combinations(range(variables), 3)], device=device)


@lru_cache(maxsize=64)
def _chances(variables: int, clauses: int) -> tuple[float, float]:
    """Return the accuracy of the policy of `ThreeSat.chance`, of whole answers and on decisions."""
    task, draws = ThreeSat(variables=variables, clauses=clauses), Draws(0, "three_sat", "chance")
    rows, few = _CHANCE_ROWS
    batch = task.sample(rows, draws)
    formula, accepted = task._clauses(batch.prompt), task.accepted(batch[:few])
    written, shares = batch.answer[:, :0], list[Tensor]()
    for place in range(variables):
        literals = torch.tensor([place, variables + place])
        forced, votes = task._look(formula, written)
        lead = (votes + clauses * forced.long()).diff(dim=1)  # what is forced outweighs all votes
        is_negative = 2 * lead + draws.integers(2, rows, 1) > 0
        written = torch.cat([written, literals[is_negative.long()]], 1)
        forced, votes = task._look(formula[:few], batch.answer[:few, :place])
        negative = (1 + votes.diff(dim=1).sign()) / 2
        right = accepted[:, place, literals].double()
        share = (right * torch.cat([1 - negative, negative], 1)).sum(1)
        shares.append(share[~forced.any(1)])
    accuracy = (task.check(batch.prompt, written) == 0).double().mean().item()
    return accuracy, torch.cat(shares).mean().item()
