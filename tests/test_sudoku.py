"""Sudoku against the list of all 4×4 grids and slow, obvious twins."""

import random
from functools import lru_cache
from itertools import permutations, product

import pytest
import torch
from helpers import lines_of

from forethought.errors import Impossible, InputError
from forethought.tasks import Draws, Sudoku, sudoku
from forethought.tasks.sudoku_grids import add_singles

SMALL, LARGE = Sudoku(), Sudoku(box=3)
every_size = pytest.mark.parametrize("task", [SMALL, LARGE], ids=["4x4", "9x9"])


def units(n):
    """The cells of each row, column and box."""
    size = n * n
    rows = [[size * r + c for c in range(size)] for r in range(size)]
    boxes = [
        [size * (n * band + r) + n * stack + c for r in range(n) for c in range(n)]
        for band in range(n)
        for stack in range(n)
    ]
    return [*rows, *map(list, zip(*rows, strict=True)), *boxes]


def is_solved(n, grid):
    return all(sorted(grid[cell] for cell in unit) == [*range(1, n * n + 1)] for unit in units(n))


def open_digits(n, grid, cell):
    """Digits that no other cell of the same units holds, 0 for a blank."""
    seen = {grid[other] for unit in units(n) if cell in unit for other in unit if other != cell}
    return [digit for digit in range(1, n * n + 1) if digit not in seen]


def solutions(n, grid):
    """All solutions of a puzzle, by trial of the blank with the fewest open digits."""
    blanks = [(len(open_digits(n, grid, cell)), cell) for cell, digit in enumerate(grid) if digit == 0]
    if not blanks:
        return [grid]
    _, cell = min(blanks)
    tried = [[*grid[:cell], digit, *grid[cell + 1 :]] for digit in open_digits(n, grid, cell)]
    return [solution for trial in tried for solution in solutions(n, trial)]


@lru_cache
def small_grids():
    lines = [*permutations(range(1, 5))]
    halves = [a + b for a, b in product(lines, lines) if len({*a[:2], *b[:2]}) == len({*a[2:], *b[2:]}) == 4]
    return [a + b for a, b in product(halves, halves) if is_solved(2, a + b)]


def split(batch):
    """Return the puzzle and the answer of each row."""
    return [(p[:-1], a) for p, a in zip(batch.prompt.tolist(), batch.answer.tolist(), strict=True)]


def test_puzzles_of_4x4_have_one_solution_and_uniform_grids():
    grids = torch.tensor(small_grids())
    batch = SMALL.sample(5000, Draws(0))
    given = batch.prompt[:, :-1]
    fits = ((given[:, None] == grids) | (given[:, None] == 0)).all(2)
    assert (fits.sum(1) == 1).all()
    drawn = fits.int().argmax(1)
    assert torch.equal(grids[drawn], batch.answer)
    counts, expected = drawn.bincount(minlength=288), 5000 / 288
    assert len(grids) == len(counts) == 288
    z_score = (((counts - expected) ** 2 / expected).sum().item() - 287) / (2 * 287) ** 0.5
    assert abs(z_score) < 4
    cells = (given > 0).double().mean(0)
    assert (cells - cells.mean()).abs().max() < 5 * (0.25 / 5000) ** 0.5


@pytest.mark.parametrize("number", [0, 1])  # of the two classes under exchanges of rows, columns and digits
def test_singles_fill_all_puzzles_of_4x4_that_have_one_solution(number):
    """Those with a given to spare follow from the others."""
    grids, cells, puzzles = torch.tensor(small_grids()), torch.arange(16), torch.arange(1 << 16)
    changes = ((grids != grids[number]).long() << cells).sum(1).unique()[1:]
    is_unique = torch.stack([puzzles & change > 0 for change in changes]).all(0)
    assert is_unique.sum() == [41401, 50027][number]
    given = puzzles[:, None] >> cells & 1 == 1
    needed = ~(is_unique[puzzles[:, None] & ~(1 << cells)] & given).any(1)
    known = given[is_unique & needed]
    for _ in range(5):
        known = add_singles(2, grids[number].expand(len(known), 16), known)
    assert known.all()


def test_puzzles_of_9x9_have_one_solution_and_as_many_givens_as_asked():
    task = Sudoku(box=3, min_givens=42, max_givens=44)
    batch = task.sample(120, Draws(1))
    rows = LARGE.sample(6, Draws(1))
    for puzzle, answer in split(rows):
        assert solutions(3, puzzle) == [answer]
    assert torch.equal(rows.prompt[:2], LARGE.sample(2, Draws(1)).prompt)
    givens = task.strata(batch)["givens"]
    assert givens.tolist() == [81 - puzzle.count(0) for puzzle, _ in split(batch)]
    assert givens.unique().tolist() == [42, 43, 44]
    assert len(batch.answer.unique(dim=0)) == 120
    assert (batch.answer.double().mean(0) - 5).abs().max() < 5 * (60 / 9 / 120) ** 0.5


def slow_outcome(n, puzzle, answer):
    if not {*answer} <= {*range(1, n * n + 1)}:
        return "other"
    if any(digit not in (0, written) for digit, written in zip(puzzle, answer, strict=True)):
        return "wrong_given"
    for cell, digit in enumerate(answer):
        choices = open_digits(n, answer[:cell] + puzzle[cell:], cell)
        if digit not in choices:
            return "broken_rule" if choices else "dead_end"
    assert is_solved(n, answer)
    return "right"


def guess(n, puzzle, rng):
    """Write a random digit that breaks no rule in each blank; any digit if there is none."""
    grid = [*puzzle]
    for cell, digit in enumerate(puzzle):
        grid[cell] = digit or rng.choice(open_digits(n, grid, cell) or range(1, n * n + 1))
    return grid


@every_size
def test_outcomes_against_a_slow_twin(task):
    rng, found = random.Random(0), []
    batch = task.sample(60, Draws(2))
    for row, (puzzle, answer) in enumerate(split(batch)):
        wrong = [*answer] if row % 2 else guess(task.box, puzzle, rng)
        changed = rng.choice([cell for cell, digit in enumerate(puzzle) if bool(digit) == (row % 4 == 1)])
        if row % 8 > 4:
            wrong[changed] = rng.choice(
                [digit for digit in range(1, task.box**2 + 1) if digit != wrong[changed]]
            )
        if row % 20 == 19:
            wrong[rng.randrange(len(wrong))] = rng.choice([0, task.dummy - 1, task.dummy])
        outcome = task.check(batch.prompt[row : row + 1], torch.tensor([wrong])).item()
        found.append(task.outcomes[outcome])
        assert found[-1] == slow_outcome(task.box, puzzle, wrong)
    assert {*found} == {*task.outcomes}
    assert (task.check(batch.prompt, batch.answer) == 0).all()


def test_every_solution_of_a_puzzle_with_several_is_right():
    puzzle, rotated = [1, 2, 3, 4, 3, 4, 1, 2, *8 * [0]], [3, 4, 1, 2, 1, 2, 3, 4]
    found = solutions(2, puzzle)
    assert len(found) > 3
    prompt = torch.tensor([[*puzzle, 5]]).expand(len(found), -1)
    assert (SMALL.check(prompt, torch.tensor(found)) == 0).all()
    assert (
        SMALL.outcomes[SMALL.check(prompt[:1], torch.tensor([rotated + found[0][8:]])).item()]
        == "wrong_given"
    )


@every_size
def test_decisions_are_blanks_that_the_cells_before_leave_open(task):
    batch = task.sample(20, Draws(3))
    expected = [
        [
            puzzle[cell] == 0 and len(open_digits(task.box, answer[:cell] + puzzle[cell:], cell)) > 1
            for cell in range(len(puzzle))
        ]
        for puzzle, answer in split(batch)
    ]
    assert task.decision_mask(batch).tolist() == expected


def test_chance_is_that_of_random_digits_that_break_no_rule():
    rng, hits, task = random.Random(0), [], SMALL
    batch = task.sample(1200, Draws(4))
    rows = split(batch)
    answers = torch.tensor([guess(2, puzzle, rng) for puzzle, _ in rows])
    right = (task.check(batch.prompt, answers) == 0).double().mean().item()
    assert abs(right - task.chance) < 4 * 0.5 / 1200**0.5
    for (puzzle, answer), mask in zip(rows[:600], task.decision_mask(batch).tolist(), strict=False):
        for cell in range(16):
            if mask[cell]:
                hits.append(rng.choice(open_digits(2, answer[:cell] + puzzle[cell:], cell)) == answer[cell])
    assert abs(sum(hits) / len(hits) - task.decision_chance) < 4 * 0.5 / len(hits) ** 0.5


@every_size
def test_text_form_round_trips(task):
    batch = task.sample(5, Draws(5))
    expected = [",".join("".join(map(str, grid)) for grid in row) for row in split(batch)]
    assert lines_of(task, batch) == expected


GOOD = "0020010010030402,4321213412433412"


@pytest.mark.parametrize("header", ["", "quizzes,solutions\n"])
def test_files_may_have_the_published_header(tmp_path, header):
    path = tmp_path / "puzzles.csv"
    path.write_text(f"{header}{GOOD}\n{GOOD}\n")
    assert lines_of(SMALL, SMALL.read(str(path))) == [GOOD, GOOD]
    path.write_text(f"{header}{GOOD}\n{header or 'puzzle'}")
    with pytest.raises(InputError, match=f"line {3 if header else 2}: .* malformed"):
        SMALL.read(str(path))
    path.write_text(header)
    with pytest.raises(InputError, match="the file is empty"):
        SMALL.read(str(path))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (GOOD[1:], "malformed.*task.box=2"),
        (GOOD.replace("0402", "5402"), "malformed"),
        (GOOD.replace(",4", ",0"), "malformed"),
        (GOOD.replace(",4321", ",4231"), "wrong solution"),
        (GOOD.replace(",432121", ",342121"), "wrong solution"),
        ("", "malformed"),
    ],
)
def test_bad_lines(line, said):
    with pytest.raises(InputError, match=said):
        SMALL.parse(line)


def test_cells_that_givens_do_not_fill_in_time_are_given(monkeypatch):
    monkeypatch.setitem(sudoku._NEEDED, 2, 4)
    known = SMALL.sample(500, Draws(6)).prompt[:, :-1] > 0
    assert 4 == known.sum(1).min() < known.sum(1).max() > 8


@pytest.mark.parametrize("options", [{"max_givens": 3}, {"max_givens": 16}, {"box": 3, "min_givens": 41}])
def test_numbers_of_givens_out_of_range(options):
    with pytest.raises(Impossible, match=r"task.min_givens=\d+, task.max_givens=\d+: .*task.box="):
        Sudoku(**options)
