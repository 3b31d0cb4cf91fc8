"""Paths in one memorised star against slow, obvious twins."""

import random
from collections import Counter

import pytest
import torch
from helpers import lines_of
from hypothesis import given, settings
from hypothesis import strategies as st

from forethought.errors import Impossible, InputError
from forethought.tasks import Data, Draws, InWeightsPathStar
from forethought.tasks.base import TEST, TRAIN, VALIDATION

STAR = InWeightsPathStar(degree=16, path_length=5, pauses=2)
TREE = InWeightsPathStar(degree=3, path_length=4, shape="tree", pauses=0)
REVERSED = InWeightsPathStar(degree=16, path_length=5, pauses=2, reverse=True)
TASKS = pytest.mark.parametrize("task", [STAR, TREE, REVERSED], ids=["star", "tree", "reversed"])


def names_of(task, tokens):
    return [*map(task.vocabulary.__getitem__, tokens)]


def read_rows(task, batch):
    """Mark, node and answer of each row by name, the answer without its end token."""
    rows = []
    vocabulary, end, dummy = task.vocabulary, task.end, task.dummy  # computed at each access
    for prompt, answer in zip(batch.prompt.tolist(), batch.answer.tolist(), strict=True):
        (*padding, mark, node), after = [vocabulary[token] for token in prompt], []
        while node == "pause":
            after.append(node)
            *padding, mark, node = [*padding, mark]
        assert set(padding) <= {"$"}
        assert len(after) == (task.pauses if mark == "path" else 0)
        length = answer.index(end)
        assert answer[length + 1 :] == [dummy] * (len(answer) - length - 1)
        rows.append((mark, node, [vocabulary[token] for token in answer[:length]]))
    return rows


WORLDS = {}


def graph(task):
    """Children and parents of each node, as training tells them, and its paths by leaf."""
    if repr(task) not in WORLDS:
        WORLDS[repr(task)] = learned(task)
    return WORLDS[repr(task)]


def learned(task):
    children, parents, paths = {}, {}, {}
    for mark, node, answer in read_rows(task, task.sample_training(5000, Draws(0))):
        if mark == ">":
            children.setdefault(node, set()).update(answer)
        elif mark == "<":
            assert parents.setdefault(node, answer) == answer
    for leaf in parents.keys() - children.keys():
        paths[leaf] = [leaf]
        while paths[leaf][0] in parents:
            paths[leaf] = [*parents[paths[leaf][0]], *paths[leaf]]
    return children, parents, paths


@TASKS
def test_edges_make_the_graph_and_rows_are_its_paths(task):
    children, parents, paths = graph(task)
    branches = [2 if task.shape == "tree" else 1] * (task.path_length - 2)
    (root,) = children.keys() - parents.keys()
    assert len(children[root]) == task.degree
    level, nodes = {root}, 1
    for count in [task.degree, *branches]:
        assert {len(children[node]) for node in level} == {count}
        level = set().union(*(children[node] for node in level))
        nodes += len(level)
    assert level == paths.keys()
    assert nodes == task.num_nodes == len(parents) + 1
    assert {(tail, head) for tail in children for head in children[tail]} == {
        (tail, head) for head, (tail,) in parents.items()
    }
    batch = task.sample(1000, Draws(1))
    counts = Counter()
    for mark, leaf, answer in read_rows(task, batch):
        assert mark == "path"
        assert answer == (paths[leaf][::-1] if task.reverse else paths[leaf])
        counts[leaf] += 1
    assert counts.keys() == paths.keys()
    expected = 1000 / len(paths)
    assert all(abs(count - expected) < 5 * expected**0.5 for count in counts.values())


@pytest.mark.parametrize("edges", ["forward", "backward", "both"])
def test_training_interleaves_edges_and_paths(edges):
    task = InWeightsPathStar(degree=16, edges=edges, edge_share=0.3)
    rows = read_rows(task, task.sample_training(20_000, Draws(0)))
    counts = Counter(mark for mark, _, _ in rows)
    shares = {">": 0.3 * (edges == "forward"), "<": 0.3 * (edges == "backward"), "path": 0.7}
    if edges == "both":
        shares = {">": 0.15, "<": 0.15, "path": 0.7}
    for mark, share in shares.items():
        assert abs(counts[mark] / 20_000 - share) <= 4 * (share / 20_000) ** 0.5
    # Within a kind, uniform over edges and over training leaves.
    for marks, size in ((">", 48), ("<", 48), ("path", 12)):
        of_kind = Counter((node, *answer) for mark, node, answer in rows if mark == marks)
        expected = counts[marks] / size
        assert len(of_kind) == (size if expected else 0)
        assert all(abs(count - expected) < 5 * expected**0.5 for count in of_kind.values())


def test_training_rows_are_functions_of_their_own_numbers():
    few, many = (STAR.sample_training(count, Draws(1)) for count in (3, 5000))
    assert torch.equal(few.prompt, many.prompt[:3])
    assert torch.equal(few.answer, many.answer[:3])


@pytest.mark.parametrize("split", ["leaf", "first_token"])
def test_leaves_are_divided_exactly(split):
    task = InWeightsPathStar(degree=24, path_length=5, shape="tree", split=split)
    batch = task.sample(5000, Draws(0))
    parts, hops = {}, {}
    for (_, leaf, path), part in zip(read_rows(task, batch), task.part(batch).tolist(), strict=True):
        assert parts.setdefault(leaf, part) == part
        hops.setdefault(path[1], set()).add(part)
    assert Counter(parts.values()) == {TRAIN: 144, VALIDATION: 24, TEST: 24}
    if split == "first_token":
        assert Counter(map(tuple, hops.values())) == {(TRAIN,): 18, (VALIDATION,): 3, (TEST,): 3}
    else:
        assert max(map(len, hops.values())) > 1


def test_no_leaf_is_trained_on_and_tested():
    seen = [
        [
            {leaf for mark, leaf, _ in read_rows(STAR, rows) if mark == "path"}
            for rows in (data.batch(0), data.validation(100), data.test(100))
        ]
        for data in (Data(STAR, seed, 500) for seed in range(2))
    ]
    assert seen[0] == seen[1]
    assert list(map(len, seen[0])) == [12, 2, 2]
    assert len(set.union(*seen[0])) == 16


def test_graph_seed_alone_draws_the_world():
    def paths(**options):
        task = InWeightsPathStar(degree=16, **options)
        batch = task.sample(400, Draws(0))
        rows = zip(read_rows(task, batch), task.part(batch).tolist(), strict=True)
        return {(*path, part) for (_, _, path), part in rows}

    assert paths() == paths(pauses=1, edges="forward", train_samples=5)
    assert paths() != paths(graph_seed=1)


def test_the_world_does_not_depend_on_torchs_default_device():
    """Models are checked under the meta device, which may be the first to ask for the world."""
    with torch.device("meta"):
        assert len(InWeightsPathStar(degree=16, graph_seed=77).vocabulary) == 55
    task = InWeightsPathStar(degree=16, graph_seed=77)
    assert task.part(task.sample(1000, Draws(0))).bincount().min() > 0


def slow_outcome(task, world, mark, node, answer):
    """The outcome of an answer, a list of names."""
    children, parents, paths = world
    nodes = children.keys() | parents.keys()
    if mark != "path":
        right = children[node] if mark == ">" else set(parents[node])
        if answer[1] != "end" or answer[0] not in nodes:
            return "other"
        return "right" if answer[0] in right else "broken_edge"
    gold = paths[node]
    written = gold[::-1] if task.reverse else gold
    if answer == [*written, "end"]:
        return "right"
    path = answer[:-1][::-1] if task.reverse else answer[:-1]
    ended = answer[-1] == "end"
    if ended and any(path[:-1] == arm[:-1] and path[-1] in (arm[-1], node) for arm in paths.values()):
        return "wrong_arm"
    if answer[:2] == written[:2]:
        return "late"
    return "broken_edge" if ended and path[0] == gold[0] and nodes.issuperset(path) else "other"


@TASKS
@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31))
def test_anatomy_of_errors_against_a_slow_twin(task, seed):
    """Answers that are right, those of another row, and both with single tokens made wrong."""
    rng = random.Random(seed)
    world = graph(task)
    batch = task.sample_training(30, Draws(seed))
    answers = batch.answer.clone()
    other = task.sample(30, Draws(seed + 1)).answer
    for row in range(30):
        if rng.random() < 0.5:
            answers[row] = other[row]
        if rng.random() < 0.2:
            place = 0 if task.reverse else -2
            answers[row, place] = batch.answer[row, place]
        for _ in range(rng.choice([0, 0, 1, 2])):
            answers[row, rng.randrange(task.answer_length)] = rng.randrange(len(task.vocabulary))
    found = [task.outcomes[i] for i in task.check(batch.prompt, answers).tolist()]
    rows = zip(read_rows(task, batch), answers.tolist(), strict=True)
    expected = [
        slow_outcome(task, world, mark, node, names_of(task, answer)) for (mark, node, _), answer in rows
    ]
    assert found == expected


@TASKS
def test_each_kind_of_wrong_answer(task):
    _, _, paths = graph(task)
    (leaf, path), (_, wrong) = sorted(paths.items())[:: len(paths) - 1]
    stranger = next(node for node in names_of(task, range(task.num_nodes)) if node not in [*path, *wrong])
    early, late = [wrong[0], stranger, *path[2:]], [*path[:-2], stranger, leaf]
    answers = [
        ("right", path),
        ("wrong_arm", wrong),
        ("wrong_arm", [*wrong[:-1], leaf]),
        ("broken_edge", late if task.reverse else early),
        ("late", early if task.reverse else late),
        ("other", [stranger, *wrong[1:]]),
    ]
    for kind, nodes in answers:
        written = [task.vocabulary.index(node) for node in (nodes[::-1] if task.reverse else nodes)]
        prompt = task.parse(f"{leaf}={','.join(path)}")[0]
        outcome = task.check(torch.tensor([prompt]), torch.tensor([[*written, task.end]]))
        assert task.outcomes[outcome] == kind


@pytest.mark.parametrize(
    "task",
    [
        InWeightsPathStar(degree=8),
        InWeightsPathStar(degree=2, path_length=5, shape="tree"),
        InWeightsPathStar(degree=9, path_length=3, shape="tree"),
    ],
    ids=["star", "tree", "low-tree"],
)
def test_chance_is_that_of_a_walk_along_the_edges(task):
    """A random walk from the root, whose last step copies the leaf that the prompt gives."""
    children, _, _ = graph(task)
    rng, count, vocabulary = random.Random(0), 4000, task.vocabulary
    batch = task.sample(count, Draws(0))
    answers, mask, hits = [], task.decision_mask(batch).tolist(), []
    for (_, leaf, path), deciding in zip(read_rows(task, batch), mask, strict=True):
        walk = [path[0]]
        while len(walk) < task.path_length - 1:
            walk.append(rng.choice(sorted(children[walk[-1]])))
        answers.append([*map(vocabulary.index, [*walk, leaf]), task.end])
        decided = [
            place for place, node in enumerate(path[:-1]) if place and len(children[path[place - 1]]) > 1
        ]
        assert [place for place, decides in enumerate(deciding) if decides] == decided
        hits += [rng.choice(sorted(children[path[place - 1]])) == path[place] for place in decided]
    right = (task.check(batch.prompt, torch.tensor(answers)) == 0).double().mean().item()
    assert abs(right - task.chance) < 4 * (task.chance / count) ** 0.5
    assert abs(sum(hits) / len(hits) - task.decision_chance) < 4 * 0.5 / len(hits) ** 0.5


@TASKS
def test_targets_are_all_children_of_a_forward_edge(task):
    children, _, _ = graph(task)
    batch = task.sample_training(300, Draws(0))
    targets = task.targets(batch)
    answers, mask = batch.answer.tolist(), task.decision_mask(batch)
    for row, (mark, node, _) in enumerate(read_rows(task, batch)):
        right = [{token} for token in answers[row]]
        if mark == ">":
            right[0] = {task.vocabulary.index(child) for child in children[node]}
        for place, tokens in enumerate(right):
            expected = {token: pytest.approx(1 / len(tokens)) for token in tokens}
            assert dict(enumerate(targets[row, place].tolist())).items() >= expected.items()
            assert targets[row, place].count_nonzero() == len(tokens)
        if mark != "path":
            assert mask[row].nonzero().tolist() == [[0]]
    assert torch.equal(task.accepted(batch), targets > 0)
    assert InWeightsPathStar(edges="backward").targets(batch) is None


@pytest.mark.parametrize("task", [STAR, REVERSED], ids=["star", "reversed"])
def test_a_distracting_answer_is_the_path_of_a_wrong_arm(task):
    batch = task.sample(50, Draws(0))
    answer = task.distract(batch)
    assert (task.check(batch.prompt, answer) == task.outcomes.index("wrong_arm")).all()
    assert (answer[:, 1] != batch.answer[:, 1]).all()
    if task.reverse:
        assert torch.equal(answer[:, 0], batch.answer[:, 0])


@TASKS
def test_text_form_round_trips(task):
    batch = task.sample_training(200, Draws(0))
    texts = lines_of(task, batch)
    for text, (mark, node, answer) in zip(texts, read_rows(task, batch), strict=True):
        forward = answer[::-1] if task.reverse and mark == "path" else answer
        assert text == f"{node}={','.join(forward)}"


def test_a_small_graph_is_drawn():
    prompt, leaf = TREE.sample(1, Draws(0)).prompt[0], read_rows(TREE, TREE.sample(1, Draws(0)))[0][1]
    children, _, paths = graph(TREE)
    drawing = TREE.drawing(prompt)
    assert {tuple(edge) for edge in drawing["edges"]} == {(u, v) for u in children for v in children[u]}
    assert (drawing["start"], drawing["goal"]) == (paths[leaf][0], leaf)
    assert STAR.drawing(STAR.sample(1, Draws(0)).prompt[0]) is None


def test_bad_lines_name_file_and_line(tmp_path):
    task = InWeightsPathStar(degree=16, edges="forward")
    _, _, paths = graph(InWeightsPathStar(degree=16))
    (leaf, path), (_, wrong) = sorted(paths.items())[:2]
    root, hop = path[:2]
    good, edge = f"{leaf}={','.join(path)}", f"{root}={hop}"
    lines = {
        f"{leaf}=": "malformed",
        f"{good} ": "malformed",
        f"> {edge}": "malformed",
        f"601={hop}": r"node 601 is out of range for task.num_nodes=49; expected 0…48",
        f"{leaf}={','.join(wrong)}": "not a path from the root to a leaf.* task.graph_seed=0",
        f"{hop}={','.join(path)}": "not a path",
        f"{edge},{hop}": "not a path",
        f"{hop}={leaf}": "nor an edge",
        f"{hop}={root}": "nor an edge in a direction of task.edges=forward",
    }
    file = tmp_path / "paths.txt"
    for line, message in lines.items():
        file.write_text(f"{good}\n{edge}\n{line}\n")
        with pytest.raises(InputError, match=message) as caught:
            task.read(str(file))
        assert f"{file}: line 3: " in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"degree": 7}, r"task.degree=7: 7 leaves; expected at least 8"),
        ({"degree": 1, "shape": "tree"}, r"task.degree=1: 4 leaves; expected at least 8"),
        ({"degree": 7, "shape": "tree", "split": "first_token"}, r"task.degree=7: 7 first hops; .* 8"),
        ({"degree": 40_000}, r"task.degree=40000, task.path_length=4, task.shape=path: .*100000 nodes"),
        ({"shape": "tree", "path_length": 20}, r"task.path_length=20, task.shape=tree: .*100000 nodes"),
    ],
)
def test_impossible_sizes_are_named(options, message):
    with pytest.raises(Impossible, match=message):
        InWeightsPathStar(**options)
