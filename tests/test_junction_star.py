"""The junction star against slow, obvious twins."""

import random
from collections import Counter, defaultdict
from contextlib import suppress
from functools import cached_property

import pytest
import torch
from helpers import gpt, lines_of
from hypothesis import given, settings
from hypothesis import strategies as st

from forethought.errors import Impossible, InputError
from forethought.evaluation import diagnose
from forethought.objectives import Objective
from forethought.tasks import Batch, Draws, JunctionStar

LEVELS = ["easy", "medium", "hard"]
MEDIUM = JunctionStar()


@st.composite
def tasks(draw):
    shortest = draw(st.integers(3, 6))
    longest = draw(st.integers(shortest, 7))
    degree = draw(st.integers(2, 4))
    return JunctionStar(
        degree=degree,
        min_path_length=shortest,
        max_path_length=longest,
        min_plan_length=draw(st.integers(2, shortest - 1)),
        num_nodes=degree * (longest - 1) + 1 + draw(st.integers(0, 4)),
        reverse=draw(st.booleans()),
    )


class Graph:
    """One prompt, read token by token, along the direction of writing."""

    def __init__(self, task, prompt):
        dummy = task.dummy  # computed at each access
        *nodes, start, goal = [token for token in prompt if token != dummy]
        self.edges = list(zip(nodes[::2], nodes[1::2], strict=True))
        self.after, self.before = defaultdict(list), defaultdict(list)
        for tail, head in self.edges:
            self.after[tail].append(head)
            self.before[head].append(tail)
        self.junction = next(node for node in nodes if len(self.after[node]) == task.degree)
        self.source, self.target, self.next = start, goal, self.after
        if task.reverse:
            self.source, self.target, self.next = goal, start, self.before

    @cached_property
    def path(self):
        return self.search([self.source])

    def search(self, path):
        """The path to the target, by trying every branch."""
        if path[-1] == self.target:
            return path
        found = [self.search([*path, node]) for node in self.next[path[-1]]]
        return next(filter(None, found), None)

    def guess(self, task, rng):
        """Write pairs: look one edge up, take the target where it is seen, else any branch."""
        node, pairs = self.source, []
        while node != self.target and self.next[node] and len(pairs) < task.answer_length - 1:
            choices = self.next[node]
            following = self.target if self.target in choices else rng.choice(choices)
            pairs += [node, following]
            node = following
        return [*pairs, task.end]

    def decides(self, node, following):
        return len(self.next[node]) > 1 and following != self.target


def graphs(task, batch):
    return [Graph(task, prompt) for prompt in batch.prompt.tolist()]


def published(task, rng):
    """Lengths and places as XLM's generator draws them: (edges before, edges after) the junction, by arm."""
    lengths = [rng.randint(task.min_path_length, task.max_path_length) for _ in range(task.degree)]
    places = [rng.randrange(length - task.min_plan_length) for length in lengths]
    return [(place, length - 1 - place) for length, place in zip(lengths, places, strict=True)]


@settings(max_examples=60, deadline=None)
@given(tasks(), st.integers(0, 2**31))
def test_every_row_is_a_junction_star_and_its_path(task, seed):
    batch = task.sample(8, Draws(seed))
    assert batch.prompt.shape == (8, task.prompt_length)
    assert batch.answer.shape == (8, task.answer_length)
    for graph, answer, prompt in zip(
        graphs(task, batch), batch.answer.tolist(), batch.prompt.tolist(), strict=True
    ):
        assert {*prompt[: prompt.count(task.dummy)]} <= {task.dummy}
        assert len({*graph.edges}) == len(graph.edges) == len({*graph.before, *graph.after}) - 1
        others = {*graph.before, *graph.after} - {graph.junction}
        assert all(len(graph.after[node]) <= 1 and len(graph.before[node]) <= 1 for node in others)
        assert len(graph.before[graph.junction]) <= task.degree
        pairs = [node for pair in zip(graph.path, graph.path[1:], strict=False) for node in pair]
        written = [*pairs, task.end]
        assert answer == written + [task.dummy] * (task.answer_length - len(written))
    assert (task.check(batch.prompt, batch.answer) == 0).all()


@pytest.mark.parametrize("difficulty", LEVELS)
def test_graphs_follow_the_law_of_the_published_generator(difficulty):
    """Its easy graphs come from another function: arms of five nodes from the start."""
    task, rng, count = JunctionStar(difficulty=difficulty), random.Random(0), 3000
    batch = task.sample(count, Draws(0))
    strata = {name: stratum.tolist() for name, stratum in task.strata(batch).items()}
    read = graphs(task, batch)
    found = zip(
        strata["lead"],
        strata["hops"],
        [len(graph.before[graph.junction]) for graph in read],
        [len(graph.edges) for graph in read],
        strict=True,
    )
    drawn = [published(task, rng) for _ in range(count)]
    expected = [
        (*arms[0], sum(lead > 0 for lead, _ in arms), sum(lead + hops for lead, hops in arms))
        for arms in drawn
    ]
    for place, pair in enumerate(zip(zip(*found, strict=True), zip(*expected, strict=True), strict=True)):
        ours, theirs = map(Counter, pair)
        for value in ours | theirs:
            sigma = (2 * max(ours[value], theirs[value])) ** 0.5
            assert abs(ours[value] - theirs[value]) < 4.5 * sigma, (place, value)
    sizes = task.strata_sizes
    assert all(max(strata[name]) < sizes[name] for name in sizes)
    if difficulty == "easy":
        assert set(strata["lead"]) == {0}
        assert set(strata["hops"]) == {4}


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("difficulty", LEVELS)
def test_chance_is_the_accuracy_of_a_policy_that_looks_up_one_edge(difficulty, reverse):
    """Also in reverse: a reversed answer needs a plan, unless every arm begins at the junction."""
    task, rng, count = JunctionStar(difficulty=difficulty, reverse=reverse), random.Random(1), 3000
    batch = task.sample(count, Draws(1))
    drawn = graphs(task, batch)
    guess = task.pad(batch.prompt.tolist(), [graph.guess(task, rng) for graph in drawn]).answer
    accuracy = (task.check(batch.prompt, guess) == 0).double().mean().item()
    assert accuracy == pytest.approx(task.chance, abs=0.03)
    mask = task.decision_mask(batch).tolist()
    chances = []
    for graph, answer, row in zip(drawn, batch.answer.tolist(), mask, strict=True):
        places = range(1, len(answer), 2)
        expected = [
            place
            for place in places
            if answer[place] < task.num_nodes and graph.decides(answer[place - 1], answer[place])
        ]
        assert [place for place, decides in enumerate(row) if decides] == expected
        chances += [1 / len(graph.next[answer[place - 1]]) for place in expected]
    assert task.needs_plan == bool(chances)
    if chances:
        assert sum(chances) / len(chances) == pytest.approx(task.decision_chance, abs=0.02)
        assert task.chance < 0.95
    else:
        assert (task.chance, task.decision_chance) == (1, 1)


def test_the_order_of_edges_does_not_tell_the_arm():
    batch = MEDIUM.sample(10_000, Draws(2))
    first = [graph.after[graph.junction][0] in graph.path for graph in graphs(MEDIUM, batch)]
    assert sum(first) / 10_000 == pytest.approx(1 / 3, abs=0.02)


def slow_outcome(task, prompt, answer):
    graph = Graph(task, prompt)
    written = answer[: answer.index(task.end)] if task.end in answer else answer
    pairs = list(zip(written[::2], written[1::2], strict=False))
    walked, node = 0, graph.source
    for tail, head in pairs:
        if tail != node or head not in graph.next[node]:
            break
        walked, node = walked + 1, head
    whole = len(written) % 2 == 0 and task.end in answer
    if whole and walked == len(pairs) and node == graph.target:
        return "right"
    step = next((pair for pair in pairs[:walked] if pair[0] == graph.junction), None)
    decided = step is not None and step[1] in graph.path and graph.junction != graph.target
    if decided:
        return "late"
    if step is not None and (len(written) % 2 == 0 or task.end not in answer):
        to_target = walked == len(pairs) - 1 and pairs[-1] == (node, graph.target)
        at_end = walked == len(pairs) and (not graph.next[node] or 2 * walked == task.answer_length - 1)
        if at_end or to_target:
            return "wrong_arm"
    nodes = written[:1] == [graph.source] and all(token < task.num_nodes for token in written)
    return "broken_edge" if nodes else "other"


@settings(max_examples=150, deadline=None)
@given(tasks(), st.integers(0, 2**31))
def test_anatomy_of_errors_against_a_slow_twin(task, seed):
    """Answers made wrong in every way: another arm, guesses, ends moved, tokens swapped, the target early."""
    rng = random.Random(seed)
    batch = task.sample(16, Draws(seed))
    answers, wrong = batch.answer.clone(), task.distract(batch)
    for row, graph in enumerate(graphs(task, batch)):
        kind = rng.randrange(7)
        if kind in (0, 1):
            answers[row] = wrong[row]
        if kind == 2:
            guess = graph.guess(task, rng)
            answers[row] = task.pad([batch.prompt[row].tolist()], [guess]).answer
        if kind in (1, 3):
            answers[row, rng.randrange(task.answer_length)] = rng.choice([graph.target, task.end])
        if kind == 4:
            answers[row, rng.randrange(task.answer_length)] = rng.randrange(task.dummy + 1)
        if kind == 5:
            answers[row] = answers[row].where(answers[row] != task.end, graph.target)
    found = [task.outcomes[i] for i in task.check(batch.prompt, answers).tolist()]
    rows = zip(batch.prompt.tolist(), answers.tolist(), strict=True)
    assert found == [slow_outcome(task, prompt, answer) for prompt, answer in rows]


@settings(max_examples=40, deadline=None)
@given(tasks(), st.integers(0, 2**31))
def test_the_distractor_takes_a_wrong_arm_at_the_decision(task, seed):
    batch = task.sample(20, Draws(seed))
    decisions = task.decision_mask(batch)
    batch, decisions = batch[decisions.any(1)], decisions[decisions.any(1)]
    wrong = task.distract(batch)
    assert (task.check(batch.prompt, wrong) == task.outcomes.index("wrong_arm")).all()
    for right, other, place in zip(batch.answer, wrong, decisions.int().argmax(1), strict=True):
        assert (right != other).nonzero()[0] == place


class Follower(Objective):
    """Follows its prefix: to the right answer, or down the wrong arm."""

    def __init__(self, task):
        super().__init__(gpt(task, layers=1), task)
        self.handed = []

    def loss(self, batch):
        raise NotImplementedError

    def answer_logits(self, batch):
        return torch.nn.functional.one_hot(batch.answer, len(self.task.vocabulary)).double()

    def decode(self, prompt, length, prefix=None, temperature=0.0):
        right = self.task.pad(
            prompt.tolist(), [pairs(self.task, g) for g in graphs(self.task, rows_of(prompt))]
        )
        if prefix is None:
            return right.answer
        decisions = self.task.decision_mask(right)
        self.handed.append(decisions[:, prefix.shape[1] - 1].all())
        wrong = self.task.distract(right)
        follows = (prefix == wrong[:, : prefix.shape[1]]).all(1, keepdim=True)
        return wrong.where(follows, right.answer)


def rows_of(prompt):
    return Batch(prompt, prompt)


def pairs(task, graph):
    return [*(n for pair in zip(graph.path, graph.path[1:], strict=False) for n in pair), task.end]


@pytest.mark.parametrize("reverse", [False, True])
def test_the_clever_hans_test_hands_each_row_its_own_decision(reverse):
    """The decision stands at another place in each row, and in reverse some rows have none."""
    task = JunctionStar(reverse=reverse)
    objective = Follower(task)
    batch = task.sample(200, Draws(3))
    metrics = diagnose(objective, task, batch)
    assert metrics["accuracy"] == 1
    assert metrics["given_decision_accuracy"] == metrics["follows_wrong_decision"] == 1
    assert len(objective.handed) > 2
    assert all(objective.handed)
    undecided = batch[~task.decision_mask(batch).any(1)]
    assert (len(undecided) > 0) == reverse
    if reverse:
        assert "follows_wrong_decision" not in diagnose(objective, task, undecided)


def test_a_graph_is_held_out_with_all_its_starts_and_goals_in_any_order():
    batch = MEDIUM.sample(300, Draws(5))
    prompts = []
    for graph, prompt in zip(graphs(MEDIUM, batch), batch.prompt.tolist(), strict=True):
        edges = sorted(graph.edges)
        leaf = next(node for node in sorted(graph.before) if not graph.after[node] and node != graph.target)
        padding = prompt[: prompt.count(MEDIUM.dummy)]
        prompts.append([*padding, *(n for edge in edges for n in edge), graph.source, leaf])
    other = Batch(torch.tensor(prompts), batch.answer)
    assert (other.prompt != batch.prompt).any(1).all()
    assert torch.equal(MEDIUM.fingerprint(other), MEDIUM.fingerprint(batch))
    assert len(MEDIUM.fingerprint(batch).unique()) == 300


@settings(max_examples=60, deadline=None)
@given(tasks(), st.integers(0, 2**31))
def test_text_form_round_trips(task, seed):
    batch = task.sample(6, Draws(seed))
    lines_of(task, batch)


LINE = "3,1|5,3|0,2|6,3|2,7|9,6|1,8|3,0/9,8=9,6,3,1,8"


@pytest.mark.parametrize(
    ("reverse", "answer"),
    [(False, [9, 6, 6, 3, 3, 1, 1, 8]), (True, [8, 1, 1, 3, 3, 6, 6, 9])],
)
def test_docstring_instance(reverse, answer):
    task = JunctionStar(degree=2, reverse=reverse)
    prompt, parsed = task.parse(LINE)
    assert prompt == [3, 1, 5, 3, 0, 2, 6, 3, 2, 7, 9, 6, 1, 8, 3, 0, 9, 8]
    assert parsed == [*answer, task.end]
    row = task.pad([prompt], [parsed])
    assert task.decision_mask(row)[0].nonzero().flatten().tolist() == [5]
    assert task.strata(row)["lead"].item() == 2
    drawing = task.drawing(row.prompt[0])
    assert (drawing["start"], drawing["goal"], len(drawing["edges"])) == ("9", "8", 8)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "malformed"),
        (LINE.replace("/", "|"), "malformed"),
        (LINE.replace("3,1|", "3,1,4|"), "malformed"),
        (LINE.replace("9", "20"), "node 20 is out of range"),
        (LINE.replace("9", "-1"), "node -1 is out of range"),
        (LINE.replace("=9,6,3,1,8", "=9,6,3,0,2,7"), "not the path from 9 to 8"),
        (LINE.replace("/9,8", "/6,8"), "one of them from 6 to 8"),  # 6 is no arm's first node
        (LINE.replace("/9,8", "/3,8"), "one of them from 3 to 8"),  # no arm begins at the junction
        (LINE.replace("9,6|", ""), "one of them from 9 to 8"),
        (LINE.replace("2,7|", "2,7|3,4|4,10|"), "not 2 arms"),
        (LINE.replace("2,7|", "7,2|"), "not 2 arms"),
        (LINE.replace("2,7|", "2,7|2,7|"), "not 2 arms"),
        (LINE.replace("2,7|", "2,7|7,0|"), "not 2 arms"),  # a circle
        (LINE.replace("2,7|", "2,7|11,12|"), "not 2 arms"),  # an edge apart
        (LINE.replace("2,7|", "2,7|7,12|12,13|"), "arms of 5 to 7 nodes"),
        (LINE.replace("0,2|", "").replace("|2,7", ""), "1 edges or more after the junction"),
    ],
)
def test_bad_lines(line, message):
    with pytest.raises(InputError, match=message) as caught:
        JunctionStar(degree=2).parse(line)
    assert "\n" not in str(caught.value)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="0123456789,|/= -x", max_size=40))
def test_any_line_is_read_or_refused(line):
    task = JunctionStar(degree=2, max_path_length=3)
    with suppress(InputError):
        prompt, answer = task.parse(line)
        assert len(prompt) == task.prompt_length
        assert len(answer) == task.answer_length


def test_sizes():
    fields = ("degree", "min_path_length", "max_path_length", "min_plan_length", "num_nodes")
    for difficulty, widths in zip(LEVELS, [(26, 9), (32, 11), (112, 23)], strict=True):
        task = JunctionStar(difficulty=difficulty)
        assert (task.prompt_length, task.answer_length) == widths
        assert task.padded_prompts == (difficulty != "easy")
        sizes = {name: getattr(task, name) for name in fields}
        assert vars(JunctionStar(difficulty=difficulty, **sizes)) == vars(task)
    assert JunctionStar(difficulty="hard", degree=2).max_path_length == 12


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"min_path_length": 7}, "task.min_path_length=7: .* at most task.max_path_length=6"),
        ({"min_plan_length": 3}, "task.min_plan_length=3: .* use at most 2"),
        ({"num_nodes": 15}, "task.num_nodes=15: 3 arms of 6 nodes have 16 nodes; expected at least 16"),
    ],
)
def test_contradicting_sizes(sizes, message):
    with pytest.raises(Impossible, match=message):
        JunctionStar(**sizes)
