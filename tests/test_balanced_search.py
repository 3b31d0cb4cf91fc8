"""The balanced search against slow, obvious twins."""

import random
from collections import Counter, defaultdict
from contextlib import suppress
from functools import cached_property, lru_cache

import pytest
import torch
from helpers import lines_of
from hypothesis import given, settings
from hypothesis import strategies as st

from forethought.errors import Impossible, InputError
from forethought.tasks import BalancedSearch, Batch, Data, Draws

TASK = BalancedSearch()


@st.composite
def tasks(draw):
    lookahead = draw(st.integers(1, 5))
    return BalancedSearch(max_lookahead=lookahead, num_nodes=2 * lookahead + 1 + draw(st.integers(0, 12)))


class Graph:
    """Edges, a start and a goal, with every way followed node by node."""

    def __init__(self, edges, start, goal):
        self.edges, self.start, self.goal = edges, start, goal
        self.after, self.before = defaultdict(list), defaultdict(list)
        for tail, head in edges:
            self.after[tail].append(head)
            self.before[head].append(tail)

    def distances(self, source):
        """Breadth-first."""
        found, queue = {source: 0}, [source]
        for node in queue:
            for head in self.after[node]:
                if head not in found:
                    found[head] = found[node] + 1
                    queue.append(head)
        return found

    def depth(self, node):
        """Nodes on the longest way from here."""
        return 1 + max((self.depth(head) for head in self.after[node]), default=0)

    @property
    def children(self):
        return self.after[self.start]

    @cached_property
    def right(self):
        towards = {self.goal}
        while more := {tail for tail, head in self.edges if head in towards} - towards:
            towards |= more
        return [child for child in self.children if child in towards]

    @cached_property
    def lookahead(self):
        return 0 if len(self.children) == 1 else self.distances(self.start)[self.goal]

    @property
    def decides(self):
        return self.lookahead > 1 and len(self.right) < len(self.children)

    def features(self):
        """Numbers in which two laws of graphs could differ."""
        nodes = {*self.after, *self.before}
        lengths = [self.depth(child) for child in self.children]
        return (
            self.lookahead,
            len(self.children),
            len(self.right),
            len(self.edges),
            len(nodes),
            max(lengths),
            sum(self.start in self.distances(node) for node in nodes),
            max(len(self.after[node]) for node in nodes - {self.start}),
            max(len(self.before[node]) for node in nodes),
            len(self.distances(self.goal)),
        )


def read(task, prompt):
    """One prompt, token by token."""
    vocabulary = task.vocabulary
    names = [vocabulary[token] for token in prompt]
    padding = names.count("$")
    assert names[:padding] == ["$"] * padding
    names = names[padding:]
    *listed, query, start, goal, path, again = names
    assert (query, path, again) == ("Q", "P", start)
    assert listed[::3] == ["E"] * (len(listed) // 3)
    edges = [(int(tail), int(head)) for tail, head in zip(listed[1::3], listed[2::3], strict=True)]
    return Graph(edges, int(start), int(goal))


def graphs(task, batch):
    return [read(task, prompt) for prompt in batch.prompt.tolist()]


@lru_cache
def many():
    """Rows of TASK, and their graphs."""
    batch = TASK.sample(12_000, Draws(1))
    return batch, graphs(TASK, batch)


@settings(max_examples=60, deadline=None)
@given(tasks(), st.integers(0, 2**31))
def test_every_row_is_a_balanced_dag_and_a_step_towards_its_goal(task, seed):
    batch = task.sample(20, Draws(seed))
    assert batch.prompt.shape == (20, task.prompt_length)
    drawn = graphs(task, batch)
    for graph, (answer,), targets in zip(
        drawn, batch.answer.tolist(), task.targets(batch)[:, 0], strict=True
    ):
        assert len({*graph.edges}) == len(graph.edges) <= task.num_nodes
        for tail, head in graph.edges:
            assert tail not in graph.distances(head)  # no cycle
        assert answer in graph.right
        assert targets.nonzero()[:, 0].tolist() == sorted(graph.right)
        assert targets[sorted(graph.right)].tolist() == pytest.approx(
            [1 / len(graph.right)] * len(graph.right)
        )
        if graph.lookahead:
            # The branches that the search must follow are no shorter than the right one.
            depths = sorted(graph.depth(child) for child in graph.children)
            assert depths[-2] >= graph.lookahead
    assert task.strata(batch)["lookahead"].tolist() == [graph.lookahead for graph in drawn]
    assert task.strata_sizes == {"lookahead": task.max_lookahead + 1}
    assert task.decision_mask(batch)[:, 0].tolist() == [graph.decides for graph in drawn]
    assert (task.check(batch.prompt, batch.answer) == 0).all()


def published(task, rng):
    """Transcript of generate_graph_with_lookahead in generator.cpp.

    Edges are left out where they would be one too many or would change the lookahead.
    """
    lookahead, most = rng.randrange(task.max_lookahead + 1), task.num_nodes
    paths = 1 if lookahead == 0 else rng.randrange(2, (most - 1) // lookahead + 1)
    size = max(2, min(lookahead * paths + 1 + rng.randrange(6), most))
    goal = max(1, lookahead)
    edges = [(node - 1, node) for node in range(1, goal + 1)]
    index = goal + 1
    for path in range(paths - 1):
        spare = size - index - (paths - 1 - path) * lookahead
        length = lookahead + rng.randrange(min(2, spare + 1))
        edges += [(0 if step == 0 else index + step - 1, index + step) for step in range(length)]
        index += length
    before = 0
    for _ in range(rng.randrange(size - index + 1)):
        edges.append((index, before))
        before, index = index, index + 1
    weights_in, weights_out = ([0.5 + sum(e[end] == v for e in edges) for v in range(size)] for end in (1, 0))

    def pick(weights, nodes, count):
        found = []
        for _ in range(min(count, len(nodes), most - len(edges))):
            found.append(rng.choices(nodes, [weights[node] for node in nodes])[0])
            nodes = [node for node in nodes if node != found[-1]]
            weights[found[-1]] += 1
            edges.append((new, found[-1]) if weights is weights_in else (found[-1], new))

    for new in range(index, size):
        room = most - len(edges)
        children = min(rng.randrange(4), room)
        pick(weights_in, list(range(new)), children)
        graph = Graph(edges, 0, goal)
        allowed = []
        for node in set(range(new)) - graph.distances(new).keys():
            changed = Graph([*edges, (node, new)], 0, goal)
            if lookahead != 0 or node != 0:
                allowed += [node] * (changed.distances(0)[goal] >= lookahead)
        pick(weights_out, allowed, rng.randrange(0 if children else 1, 4))
    return Graph(edges, 0, goal)


@pytest.mark.parametrize("task", [TASK, BalancedSearch(max_lookahead=2, num_nodes=7)], ids=["19", "7"])
def test_graphs_follow_the_law_of_the_published_generator(task):
    rng, count = random.Random(0), 3000
    found = [graph.features() for graph in graphs(task, task.sample(count, Draws(0)))]
    expected = [published(task, rng).features() for _ in range(count)]
    for place, columns in enumerate(zip(zip(*found, strict=True), zip(*expected, strict=True), strict=True)):
        ours, theirs = map(Counter, columns)
        for value in ours | theirs:
            sigma = (2 * max(ours[value], theirs[value])) ** 0.5
            assert abs(ours[value] - theirs[value]) < 4.5 * sigma, (place, value)


@pytest.mark.parametrize(
    "task", [TASK, BalancedSearch(max_lookahead=3, num_nodes=9), BalancedSearch(max_lookahead=1)], ids=str
)
def test_chance_is_the_accuracy_of_a_random_child_of_the_start(task):
    """The goal is taken where it is a child."""
    rng, batch = random.Random(0), task.sample(6000, Draws(2))
    drawn = graphs(task, batch)
    guesses = [graph.goal if graph.goal in graph.children else rng.choice(graph.children) for graph in drawn]
    right = task.check(batch.prompt, torch.tensor(guesses)[:, None]) == 0
    assert right.double().mean().item() == pytest.approx(task.chance, abs=0.02)
    decides = task.decision_mask(batch)[:, 0]
    assert task.needs_plan == bool(decides.any())
    if decides.any():
        assert right[decides].double().mean().item() == pytest.approx(task.decision_chance, abs=0.03)
        assert task.decision_chance < 0.5
    else:
        assert (task.chance, task.decision_chance) == (1, 1)


def test_neither_the_order_of_edges_nor_names_tell_the_right_child():
    drawn = [graph for graph in many()[1] if graph.decides]
    for policy in (lambda children: children[0], lambda children: children[-1], min, max):
        right = sum(policy(graph.children) in graph.right for graph in drawn)
        assert right / len(drawn) == pytest.approx(TASK.decision_chance, abs=0.02)


def test_the_place_in_the_prompt_does_not_tell_the_right_edge():
    """Right edges and wrong ones are on average in the middle of the list."""
    right, wrong = [], []
    for graph in many()[1]:
        for place, (tail, head) in enumerate(graph.edges):
            if graph.decides and tail == graph.start:
                (right if head in graph.right else wrong).append((place + 0.5) / len(graph.edges))
    for places in (right, wrong):
        assert sum(places) / len(places) == pytest.approx(0.5, abs=0.015)


def test_the_answer_is_uniform_over_the_right_children():
    batch, drawn = many()
    answers = batch.answer[:, 0].tolist()
    pairs = [pair for pair in zip(drawn, answers, strict=True) if len(pair[0].right) == 2]
    assert len(pairs) > 300
    for chosen in (min, max, lambda right: right[0]):
        hits = sum(answer == chosen(graph.right) for graph, answer in pairs)
        assert abs(hits - len(pairs) / 2) < 4 * (len(pairs) / 4) ** 0.5


@settings(max_examples=30, deadline=None)
@given(tasks(), st.integers(0, 2**31))
def test_every_possible_answer_has_its_outcome(task, seed):
    batch = task.sample(5, Draws(seed))
    for token in range(len(task.vocabulary)):
        outcomes = task.check(batch.prompt, torch.full_like(batch.answer, token))
        for graph, outcome in zip(graphs(task, batch), outcomes.tolist(), strict=True):
            expected = "missing_edge" if token < task.num_nodes else "other"
            expected = "wrong_branch" if token in graph.children else expected
            expected = "right" if token in graph.right else expected
            assert task.outcomes[outcome] == expected


def test_a_graph_is_held_out_with_all_its_starts_and_goals_in_any_order():
    batch = TASK.sample(300, Draws(5))
    others, edge = [], TASK.vocabulary.index("E")
    for graph, prompt in zip(graphs(TASK, batch), batch.prompt.tolist(), strict=True):
        listed = [token for pair in sorted(graph.edges) for token in (edge, *pair)]
        others.append([*prompt[: prompt.count(TASK.dummy)], *listed, *prompt[-5:-4], *graph.edges[0]])
        others[-1] += [prompt[-2], graph.edges[0][0]]
    other = Batch(torch.tensor(others), batch.answer)
    assert torch.equal(TASK.fingerprint(other), TASK.fingerprint(batch))
    sets = {frozenset(graph.edges) for graph in graphs(TASK, batch)}
    assert len(TASK.fingerprint(batch).unique()) == len(sets)


def test_no_graph_is_trained_on_and_tested():
    """Also not the smallest: graphs of one edge are drawn again and again."""
    task = BalancedSearch(max_lookahead=1, num_nodes=5)
    data = Data(task, 0, 2000)
    train, test, validation = (
        {frozenset(graph.edges) for graph in graphs(task, rows)}
        for rows in (data.batch(0), data.test(500), data.validation(500))
    )
    assert train
    assert not train & (test | validation)
    assert not test & validation


@settings(max_examples=40, deadline=None)
@given(tasks(), st.integers(0, 2**31))
def test_text_form_round_trips(task, seed):
    batch = task.sample(6, Draws(seed))
    lines_of(task, batch)


LINE = "5,1|3,0|7,4|6,3|0,7|3,5/3,1=3,5"
EXAMPLE = BalancedSearch(max_lookahead=2, num_nodes=8)


def test_docstring_instance():
    prompt, answer = EXAMPLE.parse(LINE)
    row = EXAMPLE.pad([prompt], [answer])
    shown = "$ $ $ $ $ $ E 5 1 E 3 0 E 7 4 E 6 3 E 0 7 E 3 5 Q 3 1 P 3"
    assert [EXAMPLE.vocabulary[token] for token in row.prompt[0].tolist()] == shown.split()
    assert answer == [5]
    assert EXAMPLE.strata(row)["lookahead"].item() == 2
    assert EXAMPLE.decision_mask(row).all()
    drawing = EXAMPLE.drawing(row.prompt[0])
    assert (drawing["start"], drawing["goal"]) == ("3", "1")
    assert {tuple(map(int, edge)) for edge in drawing["edges"]} == {*graphs(EXAMPLE, row)[0].edges}


def test_any_right_child_is_read():
    line = LINE.replace("7,4", "7,1")
    assert [EXAMPLE.parse(line.replace("=3,5", f"=3,{node}"))[1] for node in (5, 0)] == [[5], [0]]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "malformed"),
        (LINE.replace("/", "|"), "malformed"),
        (LINE.replace("=3,5", ""), "malformed"),
        (LINE.replace("4", "8"), "node 8 is out of range for task.num_nodes=8; expected 0…7"),
        ("1,2|1,3|1,4|" + LINE, "9 edges; expected at most task.num_nodes=8"),
        ("5,1|" + LINE, "listed twice"),
        (LINE + ",1", "a path of 3 nodes from 3; expected 3 and the next node"),
        (LINE.replace("=3", "=6"), "a path of 2 nodes from 6; expected 3 and the next node"),
        (LINE.replace("=3,5", "=3,0"), "0 is not the next node on a way from 3 to 1"),
        (LINE.replace("=3,5", "=3,1"), "1 is not the next node on a way from 3 to 1"),
        (LINE.replace("/3,1", "/3,3"), "5 is not the next node on a way from 3 to 3"),
        (LINE.replace("/3,1=3,5", "/3,4=3,0"), "a lookahead of 3 .* at most task.max_lookahead=2"),
    ],
)
def test_bad_lines(line, message):
    with pytest.raises(InputError, match=message) as caught:
        EXAMPLE.parse(line)
    assert "\n" not in str(caught.value)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="0123456789,|/= -x", max_size=40))
def test_any_line_is_read_or_refused(line):
    with suppress(InputError):
        prompt, answer = EXAMPLE.parse(line)
        assert len(prompt) <= EXAMPLE.prompt_length
        assert len(answer) == 1


def test_too_few_nodes():
    with pytest.raises(Impossible, match=r"task.num_nodes=8: .*task.max_lookahead=4.* expected at least 9"):
        BalancedSearch(max_lookahead=4, num_nodes=8)
    assert BalancedSearch(max_lookahead=4, num_nodes=9).prompt_length == 32
