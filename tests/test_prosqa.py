"""ProsQA in symbols against slow, obvious twins."""

import itertools
import random
from collections import Counter
from contextlib import suppress

import pytest
import torch
from helpers import lines_of
from hypothesis import given, settings
from hypothesis import strategies as st

from forethought.errors import Impossible, InputError
from forethought.tasks import Data, Draws, ProsQA


@st.composite
def tasks(draw):
    least = draw(st.integers(2, 4))
    return ProsQA(
        min_steps=least,
        max_steps=least + draw(st.integers(0, 2)),
        num_nodes=2 + 2 * least + draw(st.integers(0, 9)),
        distractor=draw(st.sampled_from(["random", "twin"])),
        steps=draw(st.sampled_from(["none", "path"])),
        pauses=draw(st.sampled_from([0, 2])),
    )


class Graph:
    """One prompt, read token by token."""

    def __init__(self, names):
        names = [name for name in names if name not in ("$", "pause")]
        listed, query = " ".join(names).removesuffix(" =").split(" / ")
        self.edges = [tuple(map(int, edge.split())) for edge in listed.split(" | ")]
        self.root, *self.candidates = map(int, query.split())
        self.nodes = {node for edge in self.edges for node in edge}
        self.roots = self.nodes - {head for _, head in self.edges}

    def children(self, node):
        return [head for tail, head in self.edges if tail == node]

    def distances(self, source):
        """Breadth-first."""
        found, queue = {source: 0}, [source]
        for node in queue:
            for head in self.children(node):
                if head not in found:
                    found[head] = found[node] + 1
                    queue.append(head)
        return found

    @property
    def right(self):
        (right,) = [node for node in self.candidates if node in self.distances(self.root)]
        return right

    def left(self, node):
        return self.distances(node).get(self.right, 1000)

    def decides(self, node):
        return self.left(node) > 1 and any(self.left(head) >= self.left(node) for head in self.children(node))

    def walk(self, task, rng):
        path, node = [], self.root
        while len(path) < task.max_steps - 1 and self.children(node) and node not in self.candidates:
            seen = [child for child in self.children(node) if child in self.candidates]
            node = rng.choice(seen or self.children(node))
            path.append(node)
        if node not in self.candidates:
            seen = [child for child in self.children(node) if child in self.candidates]
            path.append(rng.choice(seen or self.candidates))
        return [*path, task.end]


def graphs(task, batch):
    vocabulary = task.vocabulary  # computed at each access
    return [Graph([vocabulary[token] for token in prompt]) for prompt in batch.prompt.tolist()]


@settings(max_examples=15, deadline=None)
@given(tasks(), st.integers(0, 2**31))
def test_every_row_is_a_dag_with_one_candidate_within_reach(task, seed):
    batch = task.sample(6, Draws(seed))
    assert batch.prompt.shape == (6, task.prompt_length)
    pauses = [name == "pause" for name in task.names(batch.prompt[0])]
    assert pauses == [False] * (task.prompt_length - task.pauses) + [True] * task.pauses
    assert (task.check(batch.prompt, batch.answer) == 0).all()
    masks, accepted = task.decision_mask(batch).tolist(), task.accepted(batch)
    rows = zip(graphs(task, batch), batch.answer.tolist(), masks, strict=True)
    for row, (graph, answer, mask) in enumerate(rows):
        assert len({*graph.edges}) == len(graph.edges) <= task.num_edges
        assert all(tail not in graph.distances(head) for tail, head in graph.edges)
        assert len(graph.roots) == 2
        assert graph.root in graph.roots
        steps = graph.left(graph.root)
        assert task.min_steps <= steps <= task.max_steps
        assert task.strata(batch)["steps"][row] == steps < task.strata_sizes["steps"]
        (other,) = {*graph.candidates} - {graph.right}
        (source,) = graph.roots - {graph.root}
        assert graph.right not in graph.distances(source)
        assert task.min_steps <= graph.distances(source)[other] <= task.max_steps
        if task.steps == "none":
            assert answer == [graph.right]
            assert mask == [True]
            continue
        path = [graph.root, *answer[:steps]]
        assert (path[-1], answer[steps:]) == (
            graph.right,
            [task.end] + [task.dummy] * (task.max_steps - steps),
        )
        assert all(step in graph.edges for step in itertools.pairwise(path))
        assert mask == [k < steps and graph.decides(path[k]) for k in range(task.answer_length)]
        for k in range(steps):
            nearer = [head for head in graph.children(path[k]) if graph.left(head) < graph.left(path[k])]
            assert accepted[row, k].nonzero()[:, 0].tolist() == sorted(nearer)
        assert (accepted[row, range(steps, len(answer)), answer[steps:]]).all()


def slow_features(task, rng):
    """A graph by the words of the docstring: its edges, its depth, and the steps to each candidate."""
    depth, reached = {}, {}
    for node in range(2 + 2 * task.min_steps):
        depth[node], reached[node] = node // 2, {node % 2}
    edges = 2 * task.min_steps
    for node in range(len(depth), task.num_nodes):
        kind = rng.choices([{0}, {1}, {0, 1}], [0.35, 0.35, 0.3])[0]
        allowed = [other for other in depth if reached[other] <= kind]
        parents = set()
        for _ in range(rng.choice([1, 2])):
            rest = [other for other in allowed if other not in parents]
            parents.add(rng.choices(rest, [3 * depth[other] + 2 for other in rest])[0])
        depth[node] = 1 + min(depth[other] for other in parents)
        reached[node] = set().union(*(reached[other] for other in parents))
        edges += len(parents)
    wanted, found = rng.randint(task.min_steps, task.max_steps), []
    for root in (0, 1):
        found.append(max(depth[node] for node in depth if reached[node] == {root} and depth[node] <= wanted))
    shared = sum(len(roots) == 2 for roots in reached.values())
    return edges, sum(depth.values()) // 5, shared, *found


def test_graphs_follow_the_law_of_the_docstring():
    task, rng, count = ProsQA(), random.Random(0), 600
    ours, theirs = Counter(), Counter()
    for graph in graphs(task, task.sample(count, Draws(0))):
        (other,), (source,) = {*graph.candidates} - {graph.right}, graph.roots - {graph.root}
        of_roots = [graph.distances(root) for root in (graph.root, source)]
        depth = sum(min(half.get(node, 99) for half in of_roots) for node in graph.nodes)
        shared = len(of_roots[0].keys() & of_roots[1].keys())
        steps = of_roots[0][graph.right], of_roots[1][other]
        ours.update(enumerate((len(graph.edges), depth // 5, shared, *steps)))
    for _ in range(count):
        theirs.update(enumerate(slow_features(task, rng)))
    for value in ours | theirs:
        assert abs(ours[value] - theirs[value]) < 4.5 * (ours[value] + theirs[value]) ** 0.5, value


def test_a_twin_is_a_copy_of_the_graph_of_the_root():
    task = ProsQA(distractor="twin", num_nodes=21)
    for graph in graphs(task, task.sample(50, Draws(1))):
        (other,), (source,) = {*graph.candidates} - {graph.right}, graph.roots - {graph.root}
        halves = [graph.distances(root) for root in (graph.root, source)]
        assert [len(half) for half in halves] == [10, 10]
        shapes = []
        for half in halves:
            degrees = [
                (half[node], len(graph.children(node)), sum(head == node for _, head in graph.edges))
                for node in half
            ]
            shapes.append(sorted(degrees))
        assert shapes[0] == shapes[1]
        assert halves[0][graph.right] == halves[1][other]
        assert len(graph.children(graph.right)) == len(graph.children(other))


@pytest.mark.parametrize("distractor", ["random", "twin"])
def test_nothing_but_a_path_from_the_root_tells_the_candidates_apart(distractor):
    """Neither their order, name and place in the list of edges, nor their number of edges."""
    task = ProsQA(distractor=distractor)
    drawn = graphs(task, task.sample(800, Draws(2)))
    rules = {
        "first": lambda graph, node: graph.candidates.index(node),
        "name": lambda graph, node: node,
        "place": lambda graph, node: [node in edge for edge in graph.edges].index(True),
        "degree": lambda graph, node: sum(node in edge for edge in graph.edges),
        "after": lambda graph, node: len(graph.distances(node)),
    }
    for name, rule in rules.items():
        values = [[rule(graph, node) for node in graph.candidates] for graph in drawn]
        hits = [
            graph.candidates[a > b] == graph.right
            for graph, (a, b) in zip(drawn, values, strict=True)
            if a != b
        ]
        if (name, distractor) not in (("degree", "twin"), ("after", "twin")):
            assert sum(hits) / len(hits) == pytest.approx(1 / 2, abs=0.1), name
        else:
            assert not hits


@pytest.mark.parametrize("distractor", ["random", "twin"])
def test_chance_of_a_path_is_the_accuracy_of_a_random_walk(distractor):
    task, rng = ProsQA(distractor=distractor, steps="path"), random.Random(1)
    batch = task.sample(600, Draws(3))
    drawn = graphs(task, batch)
    found = task.pad(batch.prompt.tolist(), [graph.walk(task, rng) for graph in drawn]).answer
    right = task.check(batch.prompt, found) == 0
    assert right.double().mean().item() == pytest.approx(task.chance, abs=0.07)
    hits = []
    for graph, answer in zip(drawn[:150], batch.answer.tolist(), strict=False):
        path = [graph.root, *answer[: answer.index(task.end) - 1]]
        for node in filter(graph.decides, path):
            hits.append(graph.left(rng.choice(graph.children(node))) < graph.left(node))
    assert sum(hits) / len(hits) == pytest.approx(task.decision_chance, abs=0.1)
    assert (ProsQA().chance, ProsQA().decision_chance) == (1 / 2, 1 / 2)


@pytest.mark.parametrize("steps", ["none", "path"])
def test_the_choice_alone_is_judged(steps):
    task = ProsQA(steps=steps)
    batch = task.sample(5, Draws(4))
    for graph, prompt in zip(graphs(task, batch), batch.prompt.tolist(), strict=True):
        written, expected = [], []
        for token in range(task.dummy + 1):
            if token == task.end:
                continue
            kind = "wrong_choice" if token in graph.candidates else "other"
            kind = "right" if token == graph.right else kind
            answers = {"none": [[token]], "path": [[token, task.end], [0, 0, token, task.end, 0, 0]]}[steps]
            written += answers
            expected += [kind] * len(answers)
        if steps == "path":
            written += [[graph.right], [task.end, graph.right]]
            expected += ["other", "other"]
        rows = task.pad([prompt] * len(written), written)
        assert [task.outcomes[i] for i in task.check(rows.prompt, rows.answer).tolist()] == expected


def test_a_graph_is_held_out_with_all_that_is_asked_about_it():
    task = ProsQA(num_nodes=8, min_steps=2, max_steps=3)
    batch = task.sample(200, Draws(5))
    rows = []
    for graph in graphs(task, batch):
        (other,), (source,) = {*graph.candidates} - {graph.right}, graph.roots - {graph.root}
        listed = "|".join(f"{tail},{head}" for tail, head in sorted(graph.edges))
        rows.append(task.parse(f"{listed}/{source},{other},{graph.right}={other}"))
    swapped = task.pad(*zip(*rows, strict=True))
    assert torch.equal(task.fingerprint(swapped), task.fingerprint(batch))
    sets = {frozenset(graph.edges) for graph in graphs(task, batch)}
    assert len(sets) == len(task.fingerprint(batch).unique())
    data = Data(task, 0, 500)
    train, test = (
        {frozenset(graph.edges) for graph in graphs(task, rows)} for rows in (data.batch(0), data.test(100))
    )
    assert not train & test


@settings(max_examples=15, deadline=None)
@given(tasks(), st.integers(0, 2**31))
def test_text_form_round_trips(task, seed):
    lines_of(task, task.sample(5, Draws(seed)))


LINE = "7,3|4,1|3,5|4,6|5,0|2,4|2,1/2,6,5=6"
SIZES = {"num_nodes": 8, "min_steps": 2, "max_steps": 2}


def test_docstring_instance_and_drawing():
    shown = "$ $ $ 7 3 | 4 1 | 3 5 | 4 6 | 5 0 | 2 4 | 2 1 / 2 6 5 ="
    for steps, line, mask in (("none", LINE, [True]), ("path", f"{LINE[:-1]}4,6", [True, False, False])):
        task = ProsQA(**SIZES, steps=steps)
        row = task.pad(*zip(task.parse(line), strict=True))
        assert " ".join(task.names(row.prompt[0])) == shown
        assert task.decision_mask(row).tolist() == [mask]
        assert lines_of(task, row) == [line]
    assert task.names(row.answer[0]) == ["4", "6", "end"]
    drawing = task.drawing(row.prompt[0])
    assert (drawing["edges"][0], drawing["start"], drawing["goal"]) == (["7", "3"], "2", "6")


@pytest.mark.parametrize(
    ("line", "steps", "message"),
    [
        ("", "none", r"malformed; expected a,b\|c,d\|…/root,x,y=choice"),
        (LINE.replace("2,6,5", "2,6"), "none", "malformed"),
        (LINE.replace("7", "8"), "none", "node 8 is out of range for task.num_nodes=8; expected 0…7"),
        (LINE.replace("7,3|", "7,3|7,3|"), "none", "8 edges, .*expected at most 8 edges and three nodes"),
        (LINE.replace("7,3|", "7,3|7,1|7,4|"), "none", "9 edges"),
        (LINE.replace("2,6,5=6", "2,6,6=6"), "none", "three nodes, and none of them twice"),
        (LINE.replace("=6", "=5"), "none", "5 is not the candidate that 2 reaches in at most 2 steps"),
        (LINE.replace("2,6,5=6", "7,6,0=0"), "none", r"at most 2 steps \(task.max_steps\)"),
        (LINE.replace("=6", "=4,6"), "none", "as task.steps=none has it"),
        (LINE, "path", "as task.steps=path has it"),
        (LINE.replace("=6", "=1,6"), "path", "1,6 is not"),
    ],
)
def test_bad_lines(line, steps, message):
    with pytest.raises(InputError, match=message) as caught:
        ProsQA(**SIZES, steps=steps).parse(line)
    assert "\n" not in str(caught.value)


@settings(max_examples=50, deadline=None)
@given(st.text(alphabet="0123456789,|/= -x", max_size=40))
def test_any_line_is_read_or_refused(line):
    with suppress(InputError):
        ProsQA(**SIZES).parse(line)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_steps": 2}, "task.max_steps=2: out of range; use at least task.min_steps=3"),
        ({"num_nodes": 7}, "task.num_nodes=7: .* task.min_steps=3 .* expected at least 8"),
    ],
)
def test_contradicting_sizes(options, message):
    with pytest.raises(Impossible, match=message):
        ProsQA(**options)
