"""The path-star task against slow, obvious twins."""

import itertools
import random
import re
from collections import defaultdict
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from forethought.errors import Impossible, InputError
from forethought.tasks import Draws, PathStar

SHARED = Path(__file__).parents[2] / "shared" / "data"


@st.composite
def tasks(draw, **fixed):
    d, length = draw(st.integers(1, 5)), draw(st.integers(2, 6))
    edge_tokens = draw(st.sampled_from(["pairs", "joined"]))
    roles = ["shared", "by_role"] if edge_tokens == "pairs" else ["shared"]
    options = {
        "degree": d,
        "path_length": length,
        "min_degree": draw(st.sampled_from([None, None, max(1, d - 1)])),
        "min_path_length": draw(st.sampled_from([None, None, max(2, length - 2)])),
        "num_nodes": d * (length - 1) + 1 + draw(st.integers(0, 5)),
        "reverse": draw(st.booleans()),
        "scratchpad": draw(st.sampled_from(["none", "none", "reversed_path", "breadth_first"])),
        "edge_order": draw(st.sampled_from(["shuffled", "by_arm", "arms_permuted"])),
        "flip_edges": draw(st.booleans()),
        "edge_tokens": edge_tokens,
        "node_ids": draw(st.sampled_from(roles)),
        "query_position": draw(st.sampled_from(["last", "first"])),
    }
    return PathStar(**{**options, **fixed})


def read_prompt(task, prompt):
    """Edges as listed, start and goal, token by token."""
    vocabulary = task.vocabulary  # built at each access
    names = [vocabulary[token] for token in prompt]
    while names[0] == "$":
        names.pop(0)
    assert "$" not in names
    assert names.pop() == "="
    slash = names.index("/")
    start, goal = names[slash + 1], names[slash + 2]
    listed = names[:slash] if task.query_position == "last" else names[3:]
    if task.edge_tokens == "joined":
        return [tuple(name.split(",")) for name in listed], start, goal
    edges = []
    while listed:
        head = listed[1]
        if task.node_ids == "by_role":
            assert head[0] == ">"
            head = head[1:]
        edges.append((listed[0], head))
        assert listed[2:3] in (["|"], [])
        listed = listed[3:]
    return edges, start, goal


def walk_arms(task, edges, start):
    """The path along every arm, in the order of the first edges, by walking from neighbour to neighbour."""
    arms, around = [], defaultdict(set)
    for tail, head in edges:
        around[tail].add(head)
        around[head].add(tail)
    for edge in edges:
        if start not in edge or not (task.flip_edges or edge[0] == start):
            continue
        path = [start, edge[1] if edge[0] == start else edge[0]]
        while others := around[path[-1]] - {path[-2], path[-1]}:
            (following,) = others
            assert task.flip_edges or (path[-1], following) in edges
            path.append(following)
        arms.append(path)
    return arms


def walk(task, edges, start, goal):
    """The path along the arm of the goal."""
    (path,) = [arm for arm in walk_arms(task, edges, start) if goal in arm]
    return path


def slow_answer(task, edges, start, path):
    """Names of the notes, the path, the end and padding."""
    arms = walk_arms(task, edges, start) if task.scratchpad == "breadth_first" else []
    notes = {
        "none": [],
        "reversed_path": [*path[::-1], "="],
        "breadth_first": [*(node for level in zip(*arms, strict=True) for node in level), "="],
    }[task.scratchpad]
    if task.scratchpad == "breadth_first":
        notes = notes[len(arms) :]  # the start, once an arm
    names = [*notes, *(path[::-1] if task.reverse else path)]
    if task.node_ids == "by_role":
        names = [name if name in (start, "=") else f">{name}" for name in names]
    if task.end is not None:
        names.append("end")
    return names + ["$"] * (task.answer_length - len(names))


@settings(max_examples=150, deadline=None)
@given(tasks(), st.integers(0, 2**31))
def test_every_graph_is_a_star_and_the_answer_its_path(task, seed):
    batch = task.sample(8, Draws(seed))
    assert batch.prompt.shape == (8, task.prompt_length)
    assert batch.answer.shape == (8, task.answer_length)
    notes = task.decision_mask(batch).int().argmax(1) - 1
    for row, (prompt, answer) in enumerate(zip(batch.prompt.tolist(), batch.answer.tolist(), strict=True)):
        edges, start, goal = read_prompt(task, prompt)
        arms, path = walk_arms(task, edges, start), walk(task, edges, start, goal)
        assert task.min_degree <= len(arms) <= task.degree
        assert task.min_path_length <= len(path) <= task.path_length
        assert all(len(arm) == len(path) for arm in arms)
        assert len(set(edges)) == len(edges) == len(arms) * (len(path) - 1)
        assert len({node for edge in edges for node in edge}) == len(edges) + 1
        assert path[-1] == goal
        assert [task.vocabulary[token] for token in answer] == slow_answer(task, edges, start, path)
        assert [task.vocabulary[token] for token in answer[: notes[row]]][-1:] in ([], ["="])
        strata = {name: int(numbers[row]) for name, numbers in task.strata(batch).items()}
        assert {"degree": len(arms), "path_length": len(path), **strata} == {
            "degree": len(arms),
            "path_length": len(path),
        }
    assert (task.check(batch.prompt, batch.answer) == 0).all()
    assert set(task.strata(batch)) == {
        name for name in ("degree", "path_length") if getattr(task, f"min_{name}") < getattr(task, name)
    }


@settings(max_examples=100, deadline=None)
@given(tasks(), st.integers(0, 2**31))
def test_text_form_round_trips(task, seed):
    batch = task.sample(4, Draws(seed))
    task = PathStar(**{**task.__dict__, "edge_order": "shuffled"})
    lines = [task.text(prompt, answer) for prompt, answer in zip(batch.prompt, batch.answer, strict=True)]
    for line, prompt, answer in zip(lines, batch.prompt, batch.answer, strict=True):
        assert re.fullmatch(r"(\d+,\d+[|]?)+/\d+,\d+=\d+(,\d+)+", line)
        assert task.parse(line) == (prompt.tolist(), answer.tolist())
    together = task.parse_all(lines)
    assert (together is None) == task.flip_edges
    if together is not None:
        assert torch.equal(together.prompt, batch.prompt)
        assert torch.equal(together.answer, batch.answer)


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="the published files are not beside this checkout")
@pytest.mark.parametrize(("degree", "length", "nodes"), [(2, 3, 10), (2, 5, 50)])
@pytest.mark.parametrize("reverse", [False, True])
def test_published_files_round_trip(degree, length, nodes, reverse):
    task = PathStar(degree=degree, path_length=length, num_nodes=nodes, reverse=reverse)
    path = SHARED / f"deg_{degree}_path_{length}_nodes_{nodes}_test_20000.txt"
    batch = task.read(str(path))
    lines = [task.text(p, a) for p, a in zip(batch.prompt, batch.answer, strict=True)]
    assert lines == path.read_text().splitlines()
    assert (task.check(batch.prompt, batch.answer) == 0).all()


@pytest.mark.parametrize("edge_order", ["shuffled", "by_arm", "arms_permuted"])
@pytest.mark.parametrize("degree", [2, 5])
def test_order_of_listing_does_not_tell_the_gold_arm(edge_order, degree):
    """The arm whose first edge is listed first is the gold one with frequency 1/d."""
    task = PathStar(degree=degree, path_length=4, num_nodes=20, edge_order=edge_order)
    count = 20_000
    batch = task.sample(count, Draws(1))
    first_hop = task._arms(batch.prompt)[:, 0, 0]
    share = (first_hop == batch.answer[:, 1]).double().mean().item()
    sigma = (1 / degree * (1 - 1 / degree) / count) ** 0.5
    assert abs(share - 1 / degree) < 4 * sigma


def test_sampler_is_uniform_over_graphs():
    """G(2, 2) on 3 nodes has 6 labelled graphs with a goal, times 2 orders of its edges."""
    task = PathStar(degree=2, path_length=2, num_nodes=3)
    batch = task.sample(24_000, Draws(2))
    _, counts = batch.prompt.unique(dim=0, return_counts=True)
    assert len(counts) == 12
    assert ((counts - 2000).abs() < 4 * 2000**0.5).all()


def test_sampler_is_a_function_of_the_seed():
    task = PathStar(degree=3, path_length=4, num_nodes=12)
    first, again, other = (task.sample(5, Draws(seed)) for seed in (7, 7, 8))
    assert torch.equal(first.prompt, again.prompt)
    assert not torch.equal(first.prompt, other.prompt)


def test_edge_orders_do_what_they_say():
    for order in ("by_arm", "arms_permuted"):
        task = PathStar(degree=3, path_length=4, num_nodes=12, edge_order=order)
        for row in task.sample(50, Draws(3)).prompt.tolist():
            edges, start, _ = read_prompt(task, row)
            arms = [edges[i : i + 3] for i in range(0, 9, 3)]
            assert all(arm[0][0] == start for arm in arms)
            assert all(a[1] == b[0] for arm in arms for a, b in itertools.pairwise(arm))
            if order == "by_arm":
                hops = [int(arm[0][1]) for arm in arms]
                assert hops == sorted(hops)


def slow_outcome(task, prompt, answer):
    edges, start, goal = read_prompt(task, prompt)
    arms = walk_arms(task, edges, start)
    (gold,) = [arm for arm in arms if goal in arm]
    notes = {"none": 0, "reversed_path": len(gold) + 1, "breadth_first": len(edges) + 1}[task.scratchpad]
    names = [task.vocabulary[token] for token in answer[notes:]]
    names, closing = names[: len(gold)], names[len(gold) :]
    closed = task.end is None or closing[0] == "end"
    if task.node_ids == "by_role":
        names = [
            name if name == start else name[1:] if name[0] == ">" and name[1:] != start else "?"
            for name in names
        ]
    path = names[::-1] if task.reverse else names
    if path == gold and closed:
        return "right"
    if closed and any(path[:-1] == arm[:-1] and path[-1] in (arm[-1], goal) for arm in arms if arm != gold):
        return "wrong_arm"
    if names[:2] == (gold[::-1] if task.reverse else gold)[:2]:
        return "late"
    if path[0] == start and all(name.isdigit() for name in path):
        return "broken_edge"
    return "other"


@settings(max_examples=100, deadline=None)
@given(tasks(), st.integers(0, 2**31))
def test_anatomy_of_errors_against_a_slow_twin(task, seed):
    """Answers made wrong in every way: shuffled, other arms, random tokens, a late slip."""
    rng = random.Random(seed)
    batch = task.sample(12, Draws(seed))
    answers = batch.answer.clone()
    wrong = task.distract(batch)
    for row in range(12):
        kind = rng.randrange(5)
        if kind == 0 and wrong is not None:
            answers[row] = wrong[row]
        elif kind == 1:
            answers[row] = answers[row][Draws(seed).permutation(1, task.answer_length)[0]]
        elif kind == 2:
            answers[row, rng.randrange(task.answer_length)] = rng.randrange(len(task.vocabulary))
        elif kind == 3:
            answers[row, -1] = (answers[row, -1] + 1) % task.num_nodes
    found = [task.outcomes[i] for i in task.check(batch.prompt, answers).tolist()]
    rows = zip(batch.prompt.tolist(), answers.tolist(), strict=True)
    assert found == [slow_outcome(task, prompt, answer) for prompt, answer in rows]


@settings(max_examples=80, deadline=None)
@given(tasks(), st.integers(0, 2**31))
def test_distractor_walks_a_wrong_arm(task, seed):
    batch = task.sample(6, Draws(seed))
    wrong = task.distract(batch)
    if task.min_degree == 1 or task.min_path_length == 2:
        assert wrong is None
        return
    decision = task.decision_mask(batch)
    assert (decision.sum(1) == 1).all()
    before = decision.flip(1).cumsum(1).flip(1) - decision.int() > 0
    assert (wrong == batch.answer)[before].all()
    assert (wrong != batch.answer)[decision].all()
    assert (task.check(batch.prompt, wrong) == task.outcomes.index("wrong_arm")).all()


@pytest.mark.parametrize("structured", [False, True])
def test_a_share_of_training_graphs_is_of_the_smallest_size(structured):
    task = PathStar(**MIXED, easy_mix=0.25, structured_batches=structured)
    easy, hard = (2, 3), (4, 5)

    def sizes(batch):
        return [tuple(int(size) for size in row) for row in torch.cat(task._sizes(batch.prompt), 1)]

    assert {*sizes(task.sample(300, Draws(0)))} == {hard}
    trained = sizes(task.sample_training(4000, Draws(0)))
    assert {*trained} == {easy, hard}
    share = trained.count(easy) / len(trained)
    assert abs(share - 0.25) < 5 * (0.25 * 0.75 / (1000 if structured else 4000)) ** 0.5
    assert task.chance == 1 / 4


@pytest.mark.parametrize("sizes", [{"degree": 3}, {"degree": 4, "min_degree": 2, "min_path_length": 2}])
def test_the_first_arm_listed_is_right_as_often_as_chance(sizes):
    task = PathStar(path_length=4, num_nodes=20, **sizes)
    batch = task.sample(20_000, Draws(1))
    decision = batch.answer[task.decision_mask(batch)]
    goal = task._graph(batch.prompt)[3][:, 0]
    is_given = task._sizes(batch.prompt)[1][:, 0] == 2
    guess = goal.where(is_given, task._arms(batch.prompt)[:, 0, 0])
    share = (guess == decision).double().mean().item()
    assert abs(share - task.chance) < 4 * (0.25 / 20_000) ** 0.5


MIXED = {"degree": 4, "min_degree": 2, "path_length": 5, "min_path_length": 3, "num_nodes": 20}


@pytest.mark.parametrize("sizes", [{"degree": 3, "path_length": 5}, MIXED])
@pytest.mark.parametrize("flip_edges", [False, True])
def test_a_waypoint_is_any_node_of_the_gold_arm_in_training(sizes, flip_edges):
    task = PathStar(query="waypoint", flip_edges=flip_edges, **sizes)
    batch, places = task.sample_training(1000, Draws(5)), []
    vocabulary = task.vocabulary
    for prompt, answer in zip(batch.prompt.tolist(), batch.answer.tolist(), strict=True):
        edges, start, asked = read_prompt(task, prompt)
        path = walk(task, edges, start, asked)
        assert [vocabulary[token] for token in answer] == slow_answer(task, edges, start, path)
        places.append((path.index(asked) - 1) / (len(path) - 1))
    assert 0.3 < sum(place < 0.5 for place in places) / 1000 < 0.7
    assert (task.check(batch.prompt, batch.answer) == 0).all()
    for row in (0, 1):
        line = task.text(batch.prompt[row], batch.answer[row])
        assert task.parse(line) == (batch.prompt[row].tolist(), batch.answer[row].tolist())
    plain = PathStar(flip_edges=flip_edges, **sizes)
    assert torch.equal(task.sample(50, Draws(5)).prompt, plain.sample(50, Draws(5)).prompt)


@pytest.mark.parametrize("sizes", [{"degree": 3, "path_length": 5}, MIXED])
def test_a_structured_batch_asks_for_every_goal_of_a_graph(sizes):
    task = PathStar(structured_batches=True, **sizes)
    batch = task.sample_training(31, Draws(6))
    assert (task.check(batch.prompt, batch.answer) == 0).all()
    read = [read_prompt(task, prompt) for prompt in batch.prompt.tolist()]
    for first in range(0, 31, task.degree):
        group = read[first : first + task.degree]
        assert all(row[:2] == group[0][:2] for row in group)
        leaves = {arm[-1] for arm in walk_arms(task, *group[0][:2])}
        if len(group) == task.degree:
            assert {goal for *_, goal in group} == leaves
    assert len({str(row[0]) for row in read}) == -(-31 // task.degree)


@pytest.mark.parametrize("sizes", [{"degree": 3, "path_length": 5}, MIXED])
@pytest.mark.parametrize("edge_order", ["shuffled", "by_arm"])
def test_a_share_of_training_graphs_is_listed_backward(sizes, edge_order):
    task = PathStar(backward_share=0.25, edge_order=edge_order, **sizes)

    def share(batch):
        backward = 0
        for prompt in batch.prompt.tolist():
            edges, start, _ = read_prompt(task, prompt)
            level = {
                pair: i
                for arm in walk_arms(task, edges, start)
                for i, pair in enumerate(itertools.pairwise(arm))
            }
            levels = [level[edge] for edge in edges]
            backward += levels == sorted(levels, reverse=True)
        return backward / len(batch)

    assert abs(share(task.sample_training(2000, Draws(7))) - 0.25) < 0.04
    assert share(task.sample(300, Draws(7))) < 0.1  # by luck


def test_files_of_mixed_lengths_are_read(tmp_path):
    """As a public fork of the published code writes them: every length from 3 to 5, with two arms."""
    lines = []
    for length in (3, 4, 5):
        star = PathStar(degree=2, path_length=length, num_nodes=30)
        rows = star.sample(20, Draws(length))
        lines += [star.text(*row) for row in zip(rows.prompt, rows.answer, strict=True)]
    random.Random(1).shuffle(lines)
    path = tmp_path / "test.txt"
    path.write_text("\n".join(lines))
    task = PathStar(degree=2, path_length=5, min_path_length=3, num_nodes=30)
    batch = task.read(str(path))
    assert [task.text(*row) for row in zip(batch.prompt, batch.answer, strict=True)] == lines
    assert task.strata(batch)["path_length"].bincount().tolist() == [0, 0, 0, 20, 20, 20]
    with pytest.raises(InputError, match=r"task\.min_path_length"):
        PathStar(degree=2, path_length=5, min_path_length=4, num_nodes=30).read(str(path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"easy_mix": 0.5}, "task.easy_mix=0.5: .*task.min_degree or task.min_path_length"),
        ({"min_degree": 3}, "task.min_degree=3: expected at most task.degree=2"),
        ({"min_path_length": 5}, "task.min_path_length=5: expected at most task.path_length=4"),
        ({"edge_tokens": "joined", "num_nodes": 101}, "task.num_nodes up to 100"),
        ({"edge_tokens": "joined", "node_ids": "by_role"}, "task.node_ids=by_role: .* shared"),
    ],
)
def test_options_that_mean_nothing_together(options, message):
    with pytest.raises(Impossible, match=message):
        PathStar(**options)


def test_fingerprint_ignores_how_edges_are_listed():
    task = PathStar(degree=3, path_length=4, num_nodes=12)
    batch = task.sample(200, Draws(5))
    pairs = torch.stack(task._graph(batch.prompt)[:2], 2)
    shuffled = pairs[:, Draws(1).permutation(1, 9)[0]]
    _, _, start, goal = task._graph(batch.prompt)
    relisted = type(batch)(task._prompt(shuffled, start, goal), batch.answer)
    assert not torch.equal(relisted.prompt, batch.prompt)
    assert torch.equal(task.fingerprint(relisted), task.fingerprint(batch))
    assert len(task.fingerprint(batch).unique()) == 200


def test_an_undirected_graph_has_one_fingerprint_in_whatever_direction_its_edges_are_listed():
    task = PathStar(degree=3, path_length=4, num_nodes=12, flip_edges=True)
    batch = task.sample(50, Draws(5))
    tails, heads, start, goal = task._graph(batch.prompt)
    flipped = type(batch)(task._prompt(torch.stack([heads, tails], 2), start, goal), batch.answer)
    assert (flipped.prompt != batch.prompt).any(1).all()
    assert torch.equal(task.fingerprint(flipped), task.fingerprint(batch))
    assert len(task.fingerprint(batch).unique()) == 50


def test_a_graph_is_held_out_with_all_of_its_goals():
    """Otherwise a model that has memorised (graph, b) falls below chance on (graph, a)."""
    task = PathStar(degree=2, path_length=3)
    batch = task.sample(200, Draws(5))
    tails, heads, start, goal = task._graph(batch.prompt)
    other = task._prompt(
        torch.stack([tails, heads], 2),
        start,
        (task._arms(batch.prompt)[:, :, -1] * (task._arms(batch.prompt)[:, :, -1] != goal)).sum(
            1, keepdim=True
        ),
    )
    assert (other != batch.prompt).any(1).all()
    assert torch.equal(task.fingerprint(type(batch)(other, batch.answer)), task.fingerprint(batch))


def test_as_many_nodes_as_the_graph_has_by_default():
    assert PathStar().num_nodes == PathStar(num_nodes=None).num_nodes == 7
    assert PathStar(degree=3, path_length=5).num_nodes == 13
    assert PathStar(degree=3, path_length=5, num_nodes=20).num_nodes == 20
    with pytest.raises(Impossible, match=r"task.degree=101, task.path_length=101: .* 10101 .* 10000"):
        PathStar(degree=101, path_length=101)


def test_too_few_nodes():
    with pytest.raises(Impossible, match=r"task.num_nodes=6: G\(2,4\) has 7 nodes"):
        PathStar(degree=2, path_length=4, num_nodes=6)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1,2|1,3/1,3=1,x", "malformed"),
        ("1,2|1,3|1,3=1,3", "malformed"),
        ("1,2|1,3,4/1,3=1,3", "malformed"),
        ("1,2|2,3|1,4|4,5/1,3=1,2,3", "path of 3 nodes in 4 edges"),
        ("1,2|1,99/1,99=1,99", "node 99 is out of range"),
        ("1,2|1,-3/1,2=1,2", "node -3 is out of range"),
        ("7,-1|7,2/7,2=7,2", "node -1 is out of range"),
        ("1,2|1,3/1,3=1,2", "not the path from 1 to 3"),
        ("1,2|2,3/1,3=1,3", "not a star"),
        ("1,2|1,2/1,2=1,2", "not a star"),
        ("1,2|2,1/1,2=1,2", "not a star"),
    ],
)
def test_bad_lines_name_file_and_line(tmp_path, line, message):
    task = PathStar(degree=2, path_length=2, num_nodes=10)
    path = tmp_path / "graphs.txt"
    path.write_text(f"1,2|1,3/1,3=1,3\n{line}\n")
    with pytest.raises(InputError, match=message) as caught:
        task.read(str(path))
    assert f"{path}: line 2: " in str(caught.value)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="0123456789,|/= -x", max_size=40))
def test_any_line_is_read_or_refused(line):
    try:
        prompt, answer = PathStar(degree=2, path_length=2, num_nodes=10).parse(line)
    except InputError:
        return
    assert len(prompt) == 9
    assert len(answer) == 2
