"""Mazes against a search that goes from cell to cell."""

import random
from collections import Counter
from contextlib import suppress

import pytest
import torch
from helpers import lines_of
from hypothesis import given, settings
from hypothesis import strategies as st

from forethought.errors import InputError
from forethought.tasks import Batch, Data, Draws, Maze

sizes = st.integers(3, 5)


class Graph:
    """One prompt, read token by token."""

    def __init__(self, size, names):
        listed, query = " ".join(names).removesuffix(" =").split(" / ")
        self.edges = [tuple(map(int, edge.split())) for edge in listed.split(" | ")]
        self.origin, self.target = map(int, query.split())
        self.size, self.beside = size, {cell: [] for cell in range(size**2)}
        for tail, head in self.edges:
            self.beside[tail].append(head)
            self.beside[head].append(tail)

    def paths(self):
        """The path from the origin to each cell."""
        paths, queue = {self.origin: [self.origin]}, [self.origin]
        for cell in queue:
            for other in self.beside[cell]:
                if other not in paths:
                    paths[other] = [*paths[cell], other]
                    queue.append(other)
        return paths

    @property
    def path(self):
        return self.paths()[self.target]

    def options(self, path):
        return [cell for cell in self.beside[path[-1]] if cell not in path]

    def decides(self, path):
        options = self.options(path)
        return len(options) > 1 and self.target not in options

    def distance(self, cell):
        (r, c), (s, d) = divmod(cell, self.size), divmod(self.target, self.size)
        return abs(r - s) + abs(c - d)

    def walk(self, rng):
        """Go on to a random one of the neighbours that are nearest to the target, to the end."""
        path = [self.origin]
        while path[-1] != self.target and self.options(path):
            least = min(map(self.distance, self.options(path)))
            path.append(rng.choice([cell for cell in self.options(path) if self.distance(cell) == least]))
        return path


def graphs(task, batch):
    vocabulary = task.vocabulary  # computed at each access
    return [Graph(task.size, [vocabulary[token] for token in prompt]) for prompt in batch.prompt.tolist()]


def written(task, batch, paths):
    return task.pad(batch.prompt.tolist(), [[*path, task.end] for path in paths]).answer


@settings(max_examples=20, deadline=None)
@given(sizes, st.integers(0, 2**31))
def test_every_row_is_a_spanning_tree_and_the_answer_its_path(size, seed):
    task = Maze(size=size)
    batch = task.sample(8, Draws(seed))
    drawn = graphs(task, batch)
    for graph in drawn:
        assert len(graph.edges) == size**2 - 1 == len(graph.paths()) - 1
        for a, b in map(sorted, graph.edges):
            assert b - a == size or (b - a == 1 and b % size)
        assert graph.origin != graph.target
    assert torch.equal(batch.answer, written(task, batch, [graph.path for graph in drawn]))
    assert (task.check(batch.prompt, batch.answer) == 0).all()
    decisions = [
        [0 < k < len(graph.path) and graph.decides(graph.path[:k]) for k in range(task.answer_length)]
        for graph in drawn
    ]
    assert task.decision_mask(batch).tolist() == decisions
    assert task.strata(batch)["length"].tolist() == [(len(graph.path) - 1) // size for graph in drawn]
    assert task.strata_sizes == {"length": (size**2 - 1) // size + 1}


def slow_maze(size, rng):
    """Depth-first search with a stack."""
    stack, visited, edges = [rng.randrange(size**2)], set(), set()
    while stack:
        cell = stack[-1]
        visited.add(cell)
        r, c = divmod(cell, size)
        beside = [(r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)]
        beside = [s * size + d for s, d in beside if 0 <= s < size and 0 <= d < size]
        if options := [other for other in beside if other not in visited]:
            stack.append(rng.choice(options))
            edges.add(frozenset((cell, stack[-1])))
        else:
            stack.pop()
    return frozenset(edges)


def test_mazes_follow_the_law_of_a_depth_first_search():
    """Each of the trees on 3 × 3 cells is as frequent; so are pairs of origin and target."""
    task, rng, count = Maze(size=3), random.Random(0), 3000
    drawn = graphs(task, task.sample(count, Draws(0)))
    ours = Counter(frozenset(map(frozenset, graph.edges)) for graph in drawn)
    theirs = Counter(slow_maze(3, rng) for _ in range(count))
    assert len(theirs) > 80
    for maze in ours | theirs:
        assert abs(ours[maze] - theirs[maze]) < 4.5 * (ours[maze] + theirs[maze]) ** 0.5
    pairs = Counter((graph.origin, graph.target) for graph in drawn)
    assert len(pairs) == 72
    assert all(abs(number - count / 72) < 4.5 * (count / 72) ** 0.5 for number in pairs.values())


def test_neither_the_order_nor_the_direction_of_edges_tells_the_path():
    places, along = [], []
    for graph in graphs(Maze(), Maze().sample(600, Draws(1))):
        step = tuple(graph.path[:2])
        along.append(step in graph.edges)
        places.append(graph.edges.index(step if along[-1] else step[::-1]))
    assert sum(along) / 600 == pytest.approx(1 / 2, abs=0.08)
    assert sum(places) / 600 == pytest.approx(14 / 2, abs=0.7)


@pytest.mark.parametrize("size", [3, 5])
def test_chance_is_the_accuracy_of_a_walk_towards_the_target(size):
    task, rng = Maze(size=size), random.Random(1)
    batch = task.sample(1000, Draws(2))
    drawn = graphs(task, batch)
    outcomes = task.check(batch.prompt, written(task, batch, [graph.walk(rng) for graph in drawn]))
    assert {task.outcomes[outcome] for outcome in outcomes.tolist()} == {"right", "wrong_branch"}
    assert (outcomes == 0).double().mean().item() == pytest.approx(task.chance, abs=0.06)
    hits = []
    for graph in drawn:
        path = graph.path
        for k in range(1, len(path)):
            if graph.decides(path[:k]):
                options = graph.options(path[:k])
                rng.shuffle(options)
                hits.append(min(options, key=graph.distance) == path[k])
    assert sum(hits) / len(hits) == pytest.approx(task.decision_chance, abs=0.05)


def slow_outcome(graph, names):
    ended = "end" in names
    names = names[: names.index("end")] if ended else names
    if not all(name.isdigit() for name in names) or names[:1] != [str(graph.origin)]:
        return "other"
    path, paths = [*map(int, names)], graph.paths()
    if ended and path == graph.path:
        return "right"
    ways = [path[:size] for size in range(2, len(path) + 1) if path[:size] in paths.values()]
    if any(len(graph.beside[way[-1]]) == 1 and way[-1] != graph.target for way in ways):
        return "wrong_branch"
    return "broken_edge"


@settings(max_examples=30, deadline=None)
@given(sizes, st.integers(0, 2**31))
def test_anatomy_of_errors_against_a_slow_twin(size, seed):
    """Paths to any cell, cut short, with the target or a way back at their end, any token anywhere."""
    task, rng = Maze(size=size), random.Random(seed)
    batch = task.sample(16, Draws(seed))
    paths = []
    for graph in graphs(task, batch):
        path = rng.choice([graph.path, *graph.paths().values()])
        ends = [[], [], [graph.target], path[-2:-1], [rng.randrange(size**2)]]
        paths.append([*path, *rng.choice(ends)][: size**2])
    found = written(task, batch, paths)
    for row in found:
        if rng.random() < 0.3:
            row[rng.randrange(task.answer_length)] = rng.randrange(task.dummy + 1)
    outcomes = [task.outcomes[i] for i in task.check(batch.prompt, found).tolist()]
    rows = zip(graphs(task, batch), map(task.names, found), strict=True)
    assert outcomes == [slow_outcome(graph, names) for graph, names in rows]


@pytest.mark.parametrize("size", [3, 5])
def test_the_distractor_errs_at_the_last_decision(size):
    task = Maze(size=size)
    batch = task.sample(100, Draws(3))
    batch = batch[task.decision_mask(batch).any(1)]
    wrong = task.distract(batch)
    assert (task.check(batch.prompt, wrong) == task.outcomes.index("wrong_branch")).all()
    for right, other, mask in zip(batch.answer, wrong, task.decision_mask(batch), strict=True):
        assert (right != other).nonzero()[0] == mask.nonzero()[-1]


def test_a_maze_is_held_out_with_all_its_paths_in_any_order():
    task, rng = Maze(size=3), random.Random(2)
    batch = task.sample(100, Draws(4))
    rows, prints = [], {}
    for graph, key in zip(graphs(task, batch), task.fingerprint(batch).tolist(), strict=True):
        edges = [rng.choice([edge, edge[::-1]]) for edge in rng.sample(graph.edges, len(graph.edges))]
        path = rng.choice([path for path in graph.paths().values() if len(path) > 1])
        listed = "|".join(f"{tail},{head}" for tail, head in edges)
        rows.append(task.parse(f"{listed}/{path[0]},{path[-1]}={','.join(map(str, path))}"))
        maze = frozenset(map(frozenset, graph.edges))
        assert prints.setdefault(key, maze) == maze
    other = task.pad(*zip(*rows, strict=True))
    assert (other.prompt != batch.prompt).any(1).all()
    assert torch.equal(task.fingerprint(other), task.fingerprint(batch))
    data = Data(task, 0, 500)
    parts = data.batch(0), data.test(100), data.validation(100)
    train, test, validation = (
        {frozenset(map(frozenset, graph.edges)) for graph in graphs(task, rows)} for rows in parts
    )
    assert not train & test | train & validation | test & validation


LINE = "0,3|4,1|6,7|0,1|5,8|7,4|7,8|2,5/4,2=4,7,8,5,2"


def test_docstring_instance_and_drawing():
    task = Maze(size=3)
    row = Batch(*(torch.tensor([tokens]) for tokens in task.parse(LINE)))
    shown = " ".join(task.names(row.prompt[0]))
    assert shown == "0 3 | 4 1 | 6 7 | 0 1 | 5 8 | 7 4 | 7 8 | 2 5 / 4 2 ="
    row = task.pad(row.prompt.tolist(), row.answer.tolist())
    assert task.decision_mask(row)[0].nonzero()[:, 0].tolist() == [1, 2]
    assert lines_of(task, row) == [LINE]
    drawing = task.drawing(row.prompt[0])
    assert (drawing["edges"][1], drawing["start"], drawing["goal"]) == (["4", "1"], "4", "2")
    lines_of(Maze(), Maze().sample(20, Draws(5)))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "malformed"),
        (LINE.replace("|2,5", ""), r"7 edges; expected 8 \(task.size=3\)"),
        (LINE.replace("4", "9"), "node 9 is out of range for task.size=3; expected 0…8"),
        (LINE.replace("0,3", "2,1"), "closes a circle; expected a tree"),
        (LINE.replace("0,3", "2,3"), "the edge 2,3 joins cells that are not neighbours"),
        (LINE.replace("8,5,2", "8,2"), "4,7,8,2 is not the path from 4 to 2"),
        (LINE.replace("=4,7", "=4,1,4,7"), "is not the path"),
        (LINE.replace("/4,2=4,7,8,5,2", "/4,4=4"), "4 is not the path from 4 to 4"),
        (LINE.replace("/4,2", "/7,2"), "is not the path from 7 to 2"),
    ],
)
def test_bad_lines(line, message):
    with pytest.raises(InputError, match=message) as caught:
        Maze(size=3).parse(line)
    assert "\n" not in str(caught.value)


@settings(max_examples=50, deadline=None)
@given(st.text(alphabet="0123456789,|/= -x", max_size=40))
def test_any_line_is_read_or_refused(line):
    with suppress(InputError):
        Maze(size=3).parse(line)
