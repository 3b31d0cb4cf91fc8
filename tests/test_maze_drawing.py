"""The drawing of mazes against slow twins that look at one cell at a time."""

import itertools
import random
from collections import Counter

import pytest
import torch
from helpers import lines_of
from hypothesis import given, settings
from hypothesis import strategies as st

from forethought.errors import InputError
from forethought.tasks import Batch, Data, Draws, Maze, MazeDrawing

TASK = MazeDrawing()


class Puzzle:
    """One prompt, read token by token."""

    def __init__(self, task, names):
        listed, query = " ".join(names).removesuffix(" =").split(" / ")
        self.size, self.edges = task.size, [tuple(map(int, edge.split())) for edge in listed.split(" | ")]
        self.left, self.right = map(int, query.split())
        self.beside = {node: set() for edge in self.edges for node in edge}
        for tail, head in self.edges:
            self.beside[tail].add(head)
            self.beside[head].add(tail)

    def fits(self, drawn):
        places = {node: divmod(cell, self.size) for cell, node in enumerate(drawn)}
        steps = [(places[a], places[b]) for a, b in self.edges]
        return all(abs(r - s) + abs(c - d) == 1 for (r, c), (s, d) in steps)

    def candidates(self, drawn):
        """The names that a greedy guesser chooses from, and the rule: `given`, `above`, `left`, `any`."""
        n, cell = self.size, len(drawn)
        r, c = divmod(cell, n)
        if cell in (0, n - 1):
            return [self.right if cell else self.left], "given"
        room = (r < n - 1) + (c < n - 1)
        free = self.beside.keys() - {*drawn} - ({self.right} if cell < n else set())
        free = {node for node in free if len(self.beside[node] - {*drawn}) <= room}
        if r and (above := free & self.beside[drawn[-n]]):
            return sorted(above), "above"
        if c and (left := free & self.beside[drawn[-1]]):
            return sorted(left), "left"
        return sorted(node for node in free if not self.beside[node] & {*drawn}), "any"

    def decides(self, drawn):
        n, rule = self.size, self.candidates(drawn)[1]
        by_left = rule == "left" and len(drawn) < n * (n - 1)
        return len(drawn) < n * n - 1 and (by_left or rule == "any")

    def draw(self, rng):
        drawn = []
        while len(drawn) < self.size**2:
            drawn.append(rng.choice(self.candidates(drawn)[0] or [0]))
        return drawn


def puzzles(task, batch):
    vocabulary = task.vocabulary  # computed at each access
    return [Puzzle(task, [vocabulary[token] for token in prompt]) for prompt in batch.prompt.tolist()]


@settings(max_examples=12, deadline=None)
@given(st.integers(4, 6), st.integers(0, 2**31))
def test_every_answer_is_a_drawing_of_the_maze(size, seed):
    task = MazeDrawing(size=size)
    batch = task.sample(8, Draws(seed))
    drawn, answers = puzzles(task, batch), batch.answer.tolist()
    for puzzle, answer in zip(drawn, answers, strict=True):
        assert sorted(answer) == [*range(size**2)] == sorted(puzzle.beside)
        assert len(puzzle.edges) == size**2 - 1
        assert puzzle.fits(answer)
        assert (answer[0], answer[size - 1]) == (puzzle.left, puzzle.right)
    assert (task.check(batch.prompt, batch.answer) == 0).all()
    expected = [
        [puzzle.decides(answer[:k]) for k in range(size**2)]
        for puzzle, answer in zip(drawn, answers, strict=True)
    ]
    assert task.decision_mask(batch).tolist() == expected


def test_mazes_are_those_of_the_task_maze_under_random_names():
    batch, maze = TASK.sample(400, Draws(1)), Maze(size=4)
    places = batch.answer.argsort(1)
    lengths = [Counter(), Counter()]
    for counter, task, rows in zip(lengths, (TASK, maze), (batch, maze.sample(400, Draws(2))), strict=True):
        for puzzle in puzzles(task, rows):
            counter[sum(len(beside) == 1 for beside in puzzle.beside.values())] += 1
    for ends in lengths[0] | lengths[1]:
        assert abs(lengths[0][ends] - lengths[1][ends]) < 4.5 * (lengths[0][ends] + lengths[1][ends]) ** 0.5
    counts = torch.stack([column.bincount(minlength=16) for column in places.unbind(1)])
    assert (counts - 25).abs().max() < 4.5 * 5


def test_chance_is_the_accuracy_of_a_greedy_guesser():
    rng, batch = random.Random(0), TASK.sample(1500, Draws(3))
    drawn = puzzles(TASK, batch)
    guesses = torch.tensor([puzzle.draw(rng) for puzzle in drawn])
    right = TASK.check(batch.prompt, guesses) == 0
    assert right.double().mean().item() == pytest.approx(TASK.chance, abs=0.02)
    hits = []
    for puzzle, answer in zip(drawn[:500], batch.answer.tolist(), strict=False):
        for k in range(16):
            if puzzle.decides(answer[:k]):
                hits.append(rng.choice(puzzle.candidates(answer[:k])[0]) == answer[k])
    assert sum(hits) / len(hits) == pytest.approx(TASK.decision_chance, abs=0.04)


def test_any_drawing_that_fits_is_right_and_each_error_has_its_kind():
    batch = TASK.sample(20, Draws(4))
    for turn in range(8):
        views = batch.answer.view(-1, 4, 4).rot90(turn % 4, (1, 2))
        views = views.transpose(1, 2) if turn > 3 else views
        assert (TASK.check(batch.prompt, views.flatten(1)) == 0).all()
    found, expected = [], []
    for puzzle, answer in zip(puzzles(TASK, batch), batch.answer.tolist(), strict=True):
        for a, b in itertools.combinations(range(16), 2):
            swapped, copied, marked = answer.copy(), answer.copy(), answer.copy()
            swapped[a], swapped[b] = swapped[b], swapped[a]
            copied[a], marked[a] = copied[b], 16 + b % (TASK.dummy - 15)
            found.append([swapped, copied, marked])
            expected.append(["right" if puzzle.fits(swapped) else "broken_edge", "repeated", "other"])
    outcomes = TASK.check(batch.prompt.repeat_interleave(360, 0), torch.tensor(found).flatten(0, 1))
    assert [TASK.outcomes[outcome] for outcome in outcomes.tolist()] == [*itertools.chain(*expected)]
    assert expected.count(["right", "repeated", "other"]) > 2


def walls(task, prompt, answer):
    """The walls of a drawing, in each of eight views."""
    puzzle = Puzzle(task, task.names(prompt))
    grid = answer.view(task.size, task.size)
    views = [view.flatten().tolist() for turn in range(4) for view in (grid.rot90(turn), grid.rot90(turn).T)]
    return {frozenset(frozenset((view.index(a), view.index(b))) for a, b in puzzle.edges) for view in views}


def test_a_maze_is_held_out_under_all_names_and_in_all_views():
    batch = TASK.sample(40, Draws(5))
    names = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    lines = []
    for puzzle, answer in zip(puzzles(TASK, batch), batch.answer.view(-1, 4, 4), strict=True):
        view = names[answer.rot90(1).T if puzzle.left % 2 else answer.rot90(puzzle.right % 4)].flatten()
        listed = "|".join(f"{names[head]},{names[tail]}" for tail, head in puzzle.edges[::-1])
        lines.append(f"{listed}/{view[0]},{view[3]}={','.join(map(str, view.tolist()))}")
    other = TASK.pad(*zip(*map(TASK.parse, lines), strict=True))
    assert torch.equal(TASK.fingerprint(other), TASK.fingerprint(batch))
    data = Data(TASK, 0, 60)
    train, test, validation = (
        set.union(*(walls(TASK, *row) for row in zip(rows.prompt, rows.answer, strict=True)))
        for rows in (data.batch(0), data.test(20), data.validation(20))
    )
    assert not train & test | train & validation | test & validation


LINE = (
    "6,10|15,0|14,13|12,2|1,3|6,13|0,12|0,5|11,10|11,15|8,9|7,2|5,4|14,3|4,9/8,3="
    "8,9,14,3,7,4,13,1,2,5,6,10,12,0,15,11"
)


def test_docstring_instance_and_drawing():
    row = Batch(*(torch.tensor([tokens]) for tokens in TASK.parse(LINE)))
    mask = TASK.decision_mask(row)[0]
    assert row.answer[0][mask].tolist() == [9, 14, 7, 10]
    assert " ".join(TASK.names(row.prompt[0])).startswith("6 10 | 15 0 |")
    assert lines_of(TASK, row) == [LINE]
    drawing = TASK.drawing(row.prompt[0])
    assert (drawing["edges"][1], drawing["start"], drawing["goal"]) == (["15", "0"], "8", "3")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "malformed"),
        (LINE.replace("|4,9", ""), r"14 edges; expected 15 \(task.size=4\)"),
        (LINE.replace("15", "16"), "node 16 is out of range for task.size=4; expected 0…15"),
        (LINE.replace("4,9/", "5,12/"), "the edge 5,12 closes a circle"),
        (LINE.replace("15,11", "11,15"), "not a drawing of the maze, row by row, with 8 and 3"),
        (LINE.replace(",15,11", ",15"), "not a drawing"),
        (LINE.replace("/8,3", "/3,8"), "not a drawing of the maze, row by row, with 3 and 8"),
    ],
)
def test_bad_lines(line, message):
    with pytest.raises(InputError, match=message) as caught:
        TASK.parse(line)
    assert "\n" not in str(caught.value)
