"""3-SAT against slow, obvious twins in plain Python."""

import itertools
import random
from collections import Counter

import pytest
import torch
from helpers import lines_of

from forethought.errors import Impossible, InputError
from forethought.tasks import Batch, Data, Draws, ThreeSat
from forethought.tasks.base import TRAIN

TASK = ThreeSat()
with_task = pytest.mark.parametrize(
    "task", [TASK, ThreeSat(variables=3, clauses=7), ThreeSat(variables=7, clauses=12)], ids=str
)


def read(line):
    """Clauses and assignment, as sets and a list of numbers."""
    formula, assignment = line.split("=")
    clauses = [frozenset(map(int, clause.split(","))) for clause in formula.split("|")]
    return clauses, [*map(int, assignment.split(","))]


def rows(task, batch):
    return [read(task.text(*row)) for row in zip(batch.prompt, batch.answer, strict=True)]


def solutions(clauses, variables):
    every = itertools.product(*((name, -name) for name in range(1, variables + 1)))
    return [literals for literals in every if all(clause & {*literals} for clause in clauses)]


@with_task
def test_rows_are_satisfied_formulas(task):
    batch = task.sample(60, Draws(0))
    assert (task.check(batch.prompt, batch.answer) == 0).all()
    lines, counts = lines_of(task, batch[:9]), []
    again = task.parse_all(lines)
    assert torch.equal(again.prompt, batch.prompt[:9])
    assert torch.equal(again.answer, batch.answer[:9])
    assert task.parse_all([*lines, "="]) is None
    for clauses, assignment in rows(task, batch):
        assert len({*clauses}) == task.clauses
        assert all(len({abs(literal) for literal in clause}) == 3 for clause in clauses)
        found = solutions(clauses, task.variables)
        assert tuple(assignment) in found
        counts.append(min(len(found), 4))
    assert task.strata(batch)["solutions"].tolist() == counts


def test_all_formulas_with_an_assignment_are_equally_likely():
    """On three variables: 8 assignments, each with 7 clauses of which 2 are listed."""
    batch = ThreeSat(variables=3, clauses=2).sample(2500, Draws(1))
    counts = Counter(map(tuple, torch.cat([batch.prompt, batch.answer], 1).tolist()))
    expected = 2500 / (8 * 7 * 6)
    assert len(counts) == 8 * 7 * 6
    statistic = sum((count - expected) ** 2 / expected for count in counts.values())
    assert abs(statistic - (len(counts) - 1)) < 5 * (2 * len(counts)) ** 0.5


def test_every_assignment_is_judged_by_the_clauses():
    batch = TASK.sample(6, Draws(2))
    names = TASK.vocabulary
    for row, (clauses, _) in enumerate(rows(TASK, batch)):
        right = solutions(clauses, 5)
        for literals in itertools.product(*((name, -name) for name in range(1, 6))):
            answer = torch.tensor([[names.index(str(literal)) for literal in literals]])
            outcome = TASK.outcomes[TASK.check(batch.prompt[row : row + 1], answer).item()]
            assert outcome == ("right" if literals in right else "unsatisfied")
    for token in (names.index("|"), TASK.dummy, names.index("2"), names.index("-2")):
        answer = batch.answer.clone()
        answer[:, 0] = token
        assert (TASK.check(batch.prompt, answer) == TASK.outcomes.index("malformed")).all()


def vote(clauses, assigned, name):
    """The literals of a variable that a clause forces, and those of most clauses without a true literal."""
    unsatisfied = [clause for clause in clauses if not clause & {*assigned}]
    units = [
        clause for clause in unsatisfied if len({abs(literal) for literal in clause} - names(assigned)) == 1
    ]
    forced = [literal for literal in (name, -name) if any(literal in clause for clause in units)]
    counts = {literal: sum(literal in clause for clause in unsatisfied) for literal in (name, -name)}
    return forced, [literal for literal in counts if counts[literal] == max(counts.values())]


def names(literals):
    return {abs(literal) for literal in literals}


@with_task
def test_accepted_literals_can_be_completed_and_decisions_are_those_that_no_clause_forces(task):
    batch = task.sample(20, Draws(3))
    accepted, deciding = task.accepted(batch), task.decision_mask(batch)
    for row, (clauses, assignment) in enumerate(rows(task, batch)):
        found = solutions(clauses, task.variables)
        for place in range(task.variables):
            before = assignment[:place]
            right = {str(literals[place]) for literals in found if [*literals[:place]] == before}
            tokens = accepted[row, place].nonzero()[:, 0].tolist()
            assert {task.vocabulary[token] for token in tokens} == right
            assert deciding[row, place].item() == (not vote(clauses, before, place + 1)[0])


def test_chance_is_that_of_unit_clauses_and_majorities():
    task, dice, right, hits = TASK, random.Random(0), [], []
    for clauses, _ in rows(task, task.sample(500, Draws(4))):
        written = []
        for name in range(1, task.variables + 1):
            forced, most = vote(clauses, written, name)
            # If both are forced, all is lost.
            written.append(dice.choice(forced or most))
        right.append(all(clause & {*written} for clause in clauses))
    for clauses, assignment in rows(task, task.sample(100, Draws(5))):
        found = solutions(clauses, task.variables)
        for place in range(task.variables):
            forced, most = vote(clauses, assignment[:place], place + 1)
            if not forced:
                prefix = (*assignment[:place], dice.choice(most))
                hits.append(any(literals[: place + 1] == prefix for literals in found))
    assert sum(right) / len(right) == pytest.approx(task.chance, abs=0.06)
    assert sum(hits) / len(hits) == pytest.approx(task.decision_chance, abs=0.05)


def test_a_formula_is_held_out_with_all_orders_of_its_clauses():
    batch = TASK.sample(300, Draws(6))
    clauses = batch.prompt.view(300, -1, 4)
    order = torch.tensor([*range(19, -1, -1), 20])
    other = torch.cat([clauses[:, order][:, :, [2, 0, 1]], clauses[:, :, 3:]], 2).flatten(1)
    assert torch.equal(TASK.fingerprint(Batch(other, batch.answer)), TASK.fingerprint(batch))
    assert len(TASK.fingerprint(batch).unique()) == len({frozenset(c) for c, _ in rows(TASK, batch)})
    assert (TASK.part(Data(TASK, 0, 300).batch(0)) == TRAIN).all()


LINE = "1,-2,4|-1,2,3|-1,-3,-4|2,3,-4|1,-3,4=1,2,-3,-4"
EXAMPLE = ThreeSat(variables=4, clauses=5)


def test_docstring_instance():
    prompt, answer = EXAMPLE.parse(LINE)
    shown = "1 -2 4 | -1 2 3 | -1 -3 -4 | 2 3 -4 | 1 -3 4 ="
    assert " ".join(EXAMPLE.vocabulary[token] for token in prompt) == shown
    assert " ".join(EXAMPLE.vocabulary[token] for token in answer) == "1 2 -3 -4"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "malformed"),
        (LINE.replace("=", "|"), "malformed"),
        (LINE.replace("2,3,-4", "2,3,-5"), r"literal -5 is out of range.*task.variables=4"),
        (LINE.replace("2,3,-4", "2,3,0"), "literal 0 is out of range"),
        (LINE.replace("2,3,-4|", ""), "4 clauses and 4 literals after them; expected 5 and 4"),
        (LINE.replace("2,3,-4", "2,3,-3"), "a variable twice"),
        (LINE.replace("2,3,-4", "4,1,-2"), "listed twice"),
        (LINE.replace("=1,2", "=1,-2"), "unsatisfied"),
        (LINE.replace("=1,2", "=2,1"), "malformed"),
    ],
)
def test_bad_lines(line, said):
    with pytest.raises(InputError, match=said):
        EXAMPLE.parse(line)


def test_too_many_clauses():
    with pytest.raises(Impossible, match=r"task.clauses=29: .*task.variables=4; expected at most 28"):
        ThreeSat(variables=4, clauses=29)
