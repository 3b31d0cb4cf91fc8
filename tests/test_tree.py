"""The parts that tasks on trees share, against slow, obvious twins."""

import random
from contextlib import suppress
from functools import cached_property

import pytest
import torch
from helpers import lines_of
from hypothesis import example, given, settings
from hypothesis import strategies as st

from forethought.errors import Impossible, InputError
from forethought.tasks import BinaryTree, Draws, TreeStar


@st.composite
def tasks(draw):
    if draw(st.booleans()):
        degree, length = draw(st.integers(2, 4)), draw(st.integers(4, 7))
        needed = degree * (length - 1) + 1
        kind, options = TreeStar, {"degree": degree, "path_length": length, "split_share": 0.7}
    else:
        leaves, ids = draw(st.integers(3, 9)), draw(st.sampled_from(["shared", "by_role"]))
        needed = 2 * leaves - 1
        kind, options = BinaryTree, {"leaves": leaves, "node_ids": ids, "backward_share": 0.5}
    return kind(num_nodes=needed + draw(st.integers(0, 3)), **options)


def mark_of_heads(task):
    return ">" if getattr(task, "node_ids", "shared") == "by_role" else ""


class Tree:
    """One prompt, read token by token."""

    def __init__(self, task, prompt):
        vocabulary = task.vocabulary  # built at each access
        names = [vocabulary[token] for token in prompt]
        *listed, slash, start, goal, equals = names
        assert (slash, equals) == ("/", "=")
        assert listed[2::3] == ["|"] * (task.num_edges - 1)
        self.mark = mark_of_heads(task)
        assert all(head.startswith(self.mark) for head in listed[1::3])
        heads = [int(head.removeprefix(self.mark)) for head in listed[1::3]]
        self.edges = list(zip(map(int, listed[::3]), heads, strict=True))
        self.start, self.goal = int(start), int(goal)
        self.children = {node: [head for tail, head in self.edges if tail == node] for node in self.nodes}

    @cached_property
    def nodes(self):
        return {node for edge in self.edges for node in edge}

    @cached_property
    def paths(self):
        """The paths to all leaves, by trying every branch."""
        found, open_paths = [], [[self.start]]
        while open_paths:
            path = open_paths.pop()
            open_paths += [[*path, child] for child in self.children[path[-1]]]
            found += [] if self.children[path[-1]] else [path]
        return found

    @property
    def path(self):
        (path,) = (path for path in self.paths if path[-1] == self.goal)
        return path

    def decides(self, node):
        return len(self.children[node]) > 1 and self.goal not in self.children[node]

    def guess(self, rng):
        """Follow edges; take the goal where it is a child, else any child. Return the path."""
        path = [self.start]
        while self.children[path[-1]]:
            below = self.children[path[-1]]
            path.append(self.goal if self.goal in below else rng.choice(below))
        return path


def trees(task, batch):
    return [Tree(task, prompt) for prompt in batch.prompt.tolist()]


def answers(task, batch, paths):
    mark, token = mark_of_heads(task), {name: token for token, name in enumerate(task.vocabulary)}
    written = [
        [token[str(start)], *(token[f"{mark}{node}"] for node in after), token["end"]]
        for start, *after in paths
    ]
    return task.pad(batch.prompt.tolist(), written).answer


@settings(max_examples=60, deadline=None)
@given(tasks(), st.booleans(), st.integers(0, 2**31))
def test_every_row_is_a_tree_and_the_answer_its_path(task, training, seed):
    batch = (task.sample_training if training else task.sample)(8, Draws(seed))
    assert batch.prompt.shape == (8, task.prompt_length)
    drawn = trees(task, batch)
    for tree in drawn:
        assert len(tree.nodes) == len({*tree.edges}) + 1 == task.num_edges + 1
        assert {*tree.nodes} == {node for path in tree.paths for node in path}
    assert torch.equal(batch.answer, answers(task, batch, [tree.path for tree in drawn]))
    assert (task.check(batch.prompt, batch.answer) == 0).all()
    expected = [
        [
            place > 0 and place < len(tree.path) and tree.decides(tree.path[place - 1])
            for place in range(width)
        ]
        for tree in drawn
        for width in [task.answer_length]
    ]
    assert task.decision_mask(batch).tolist() == expected


def slow_outcome(task, prompt, answer):
    tree = Tree(task, prompt)
    names = [task.vocabulary[token] for token in answer]
    ended = "end" in names
    names = names[: names.index("end")] if ended else names
    path = []
    for place, name in enumerate(names):
        mark = tree.mark if place else ""
        is_node = name.startswith(mark) and name.removeprefix(mark).isdigit()
        path.append(int(name.removeprefix(mark)) if is_node else None)
    gold = tree.path
    if ended and path == gold:
        return "right"
    if ended and (
        path in tree.paths
        or (path[-1:] == [tree.goal] and path[-2] not in gold and [*path[:-1]] in prefixes(tree))
    ):
        return "wrong_branch"
    places = [place for place in range(1, len(gold)) if tree.decides(gold[place - 1])]
    starts = path[:1] == gold[:1]
    if starts and all(path[place : place + 1] == gold[place : place + 1] for place in places):
        return "late"
    return "broken_edge" if starts and None not in path else "other"


def prefixes(tree):
    return [path[:size] for path in tree.paths for size in range(2, len(path) + 1)]


@settings(max_examples=200, deadline=None)
@given(tasks(), st.integers(0, 2**31))
@example(TreeStar(degree=3, path_length=6, split_share=0.7, num_nodes=19), 15953)  # right nodes after `end`
def test_anatomy_of_errors_against_a_slow_twin(task, seed):
    """Answers made wrong in every way: another leaf, its end replaced, cut short, any token anywhere."""
    rng = random.Random(seed)
    batch = task.sample_training(16, Draws(seed))
    drawn = trees(task, batch)
    paths = [rng.choice([tree.path, rng.choice(tree.paths)]) for tree in drawn]
    for row, tree in enumerate(drawn):
        kind = rng.randrange(5)
        if kind == 0:
            paths[row] = [*paths[row][:-1], tree.goal]
        elif kind == 1:
            size = rng.randrange(1, len(paths[row]) + 1)
            paths[row] = [*paths[row][:size], *([tree.goal] if size < task.longest_path else [])]
    found = answers(task, batch, paths)
    for row in range(16):
        if rng.random() < 0.3:
            found[row, rng.randrange(task.answer_length)] = rng.randrange(task.dummy + 1)
    outcomes = [task.outcomes[i] for i in task.check(batch.prompt, found).tolist()]
    rows = zip(batch.prompt.tolist(), found.tolist(), strict=True)
    assert outcomes == [slow_outcome(task, prompt, answer) for prompt, answer in rows]


@settings(max_examples=60, deadline=None)
@given(tasks(), st.integers(0, 2**31))
def test_the_distractor_errs_at_the_last_decision(task, seed):
    batch = task.sample_training(16, Draws(seed))
    mask = task.decision_mask(batch)
    batch, mask = batch[mask.any(1)], mask[mask.any(1)]
    wrong = task.distract(batch)
    assert (task.check(batch.prompt, wrong) == task.outcomes.index("wrong_branch")).all()
    for right, other, decisions in zip(batch.answer, wrong, mask, strict=True):
        assert (right != other).nonzero()[0] == decisions.nonzero()[-1]


@settings(max_examples=30, deadline=None)
@given(tasks(), st.integers(0, 2**31))
def test_a_graph_is_held_out_with_all_its_goals_in_any_order(task, seed):
    rng = random.Random(seed)
    batch = task.sample(20, Draws(seed))
    rows = []
    for tree in trees(task, batch):
        rng.shuffle(tree.edges)
        path = rng.choice([path for path in tree.paths if path != tree.path])
        listed = "|".join(f"{tail},{head}" for tail, head in tree.edges)
        rows.append(task.parse(f"{listed}/{path[0]},{path[-1]}={','.join(map(str, path))}"))
    other = task.pad(*zip(*rows, strict=True))
    assert (other.prompt != batch.prompt).any(1).all()
    assert torch.equal(task.fingerprint(other), task.fingerprint(batch))
    prints = {}
    for tree, key in zip(trees(task, batch), task.fingerprint(batch).tolist(), strict=True):
        assert prints.setdefault(key, frozenset(tree.edges)) == frozenset(tree.edges)


@settings(max_examples=40, deadline=None)
@given(tasks(), st.integers(0, 2**31))
def test_text_form_round_trips(task, seed):
    batch = task.sample_training(6, Draws(seed))
    lines_of(task, batch)
    drawing = task.drawing(batch.prompt[0])
    tree = Tree(task, batch.prompt[0].tolist())
    assert drawing["edges"] == [[str(tail), str(head)] for tail, head in tree.edges]
    assert (drawing["start"], drawing["goal"]) == (str(tree.start), str(tree.goal))


STAR = "4,3|8,0|6,1|3,5|6,4|0,2|4,7|1,8/6,5=6,4,3,5"
TREE = "3,1|5,0|0,6|3,4|5,2|0,3/5,4=5,0,3,4"


@pytest.mark.parametrize(
    ("task", "line", "answer", "decisions"),
    [
        (TreeStar(), STAR, "6 4 3 5 end", [1, 2]),
        (BinaryTree(leaves=4), TREE, "5 0 3 4 end", [1, 2]),
        (BinaryTree(leaves=4, node_ids="by_role"), TREE, "5 >0 >3 >4 end", [1, 2]),
    ],
    ids=str,
)
def test_docstring_instances(task, line, answer, decisions):
    row = task.pad(*zip(task.parse(line), strict=True))
    written = [task.vocabulary[token] for token in row.answer[0] if token != task.dummy]
    assert " ".join(written) == answer
    assert task.decision_mask(row)[0].nonzero().flatten().tolist() == decisions
    assert task.text(row.prompt[0], row.answer[0]) == line


@pytest.mark.parametrize(
    ("task", "line", "message"),
    [
        (TreeStar(), "", "malformed"),
        (TreeStar(), STAR.replace("4,3|", "4,3,1|"), "malformed"),
        (TreeStar(), STAR.replace("4,3|", ""), "7 edges; expected 8"),
        (TreeStar(), STAR.replace("5", "9"), "node 9 is out of range"),
        (TreeStar(), STAR.replace("5", "-1"), "node -1 is out of range"),
        (TreeStar(), STAR.replace("=6,4,3,5", "=6,4,7"), "not the path from 6 to the leaf 5"),
        (TreeStar(), STAR.replace("6,5=6,4,3,5", "6,3=6,4,3"), "not the path from 6 to the leaf 3"),
        (TreeStar(), STAR.replace("/6,5=6,4", "/4,5=4"), "not a tree with the root 4"),
        (TreeStar(), STAR.replace("4,7", "3,4"), "not a tree"),  # a circle
        (TreeStar(), STAR.replace("0,2", "7,3"), "not a tree"),  # two ways to a node
        (TreeStar(), STAR.replace("6,1", "2,1"), "not a tree"),  # a circle apart
        (TreeStar(), STAR.replace("6,1", "4,1"), "not a star around 6; expected 2 arms of 5 nodes"),
        (TreeStar(), STAR.replace("0,2", "5,2"), "not a star"),  # arms of 4 and 6 nodes
        (TreeStar(), STAR.replace("3,5", "4,5").replace("4,3,5", "4,5"), "each split at most once, into two"),
        (BinaryTree(leaves=4), TREE.replace("5,2", "0,2"), "node 5 has 1 children; expected 0 or 2"),
    ],
)
def test_bad_lines(task, line, message):
    with pytest.raises(InputError, match=message) as caught:
        task.parse(line)
    assert "\n" not in str(caught.value)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="0123456789,|/= -x", max_size=40))
def test_any_line_is_read_or_refused(line):
    task = BinaryTree(leaves=3)
    with suppress(InputError):
        prompt, answer = task.parse(line)
        assert len(prompt) == task.prompt_length
        assert len(answer) <= task.answer_length


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (TreeStar, {"num_nodes": 8}, "task.num_nodes=8: the graph has 9 nodes; expected at least 9"),
        (TreeStar, {"degree": 101, "path_length": 101}, "task.path_length=101: .* 10101 .* 10000"),
        (BinaryTree, {"leaves": 4, "num_nodes": 6}, "task.num_nodes=6: .* expected at least 7"),
    ],
)
def test_contradicting_sizes(kind, options, message):
    with pytest.raises(Impossible, match=message):
        kind(**options)


@pytest.mark.parametrize("task", [TreeStar(split_share=0.7), BinaryTree(backward_share=0.5)], ids=str)
def test_a_training_row_does_not_depend_on_the_number_of_rows(task):
    few, many = (task.sample_training(count, Draws(1, "train", 0)) for count in (3, 5000))
    assert torch.equal(few.prompt, many.prompt[:3])
    assert torch.equal(few.answer, many.answer[:3])


def rows_guessed(task, batch, seed=0):
    """Answer like a policy that looks one edge up and cannot plan. Return its outcomes."""
    rng = random.Random(seed)
    found = answers(task, batch, [tree.guess(rng) for tree in trees(task, batch)])
    return task.check(batch.prompt, found)
