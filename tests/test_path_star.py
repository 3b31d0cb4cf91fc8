"""The path-star task against slow, obvious twins."""

import itertools
import random
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
    nodes = d * (length - 1) + 1 + draw(st.integers(0, 5))
    return PathStar(
        **{
            "degree": d,
            "path_length": length,
            "num_nodes": nodes,
            "reverse": draw(st.booleans()),
            "edge_order": draw(st.sampled_from(["shuffled", "by_arm", "arms_permuted"])),
            "query_position": draw(st.sampled_from(["last", "first"])),
            **fixed,
        }
    )


def read_prompt(task, prompt):
    """Edges, start and goal, token by token."""
    names = [task.vocabulary[token] for token in prompt]
    assert names[-1] == "="
    slash = names.index("/")
    start, goal = names[slash + 1], names[slash + 2]
    listed = names[:slash] if task.query_position == "last" else names[3:-1]
    edges, rest = [], listed
    while rest:
        edges.append((rest[0], rest[1]))
        assert rest[2:3] in (["|"], [])
        rest = rest[3:]
    return edges, start, goal


def walk(edges, start, goal):
    """The path from start to goal by trying every arm."""
    heads = {}
    for tail, head in edges:
        heads.setdefault(tail, []).append(head)
    for first in heads[start]:
        path = [start, first]
        while path[-1] in heads:
            (following,) = heads[path[-1]]
            path.append(following)
        if path[-1] == goal:
            return path
    return None


@settings(max_examples=60, deadline=None)
@given(tasks(), st.integers(0, 2**31))
def test_every_graph_is_a_star_and_the_answer_its_path(task, seed):
    batch = task.sample(8, Draws(seed))
    assert batch.prompt.shape == (8, task.prompt_length)
    assert batch.answer.shape == (8, task.answer_length)
    for prompt, answer in zip(batch.prompt.tolist(), batch.answer.tolist(), strict=True):
        edges, start, goal = read_prompt(task, prompt)
        assert len(set(edges)) == len(edges) == task.degree * (task.path_length - 1)
        nodes = {node for edge in edges for node in edge}
        assert len(nodes) == len(edges) + 1
        assert sum(tail == start for tail, _ in edges) == task.degree
        path = walk(edges, start, goal)
        assert path is not None
        assert len(path) == task.path_length
        names = [task.vocabulary[token] for token in answer]
        assert names == (path[::-1] if task.reverse else path)
    assert (task.check(batch.prompt, batch.answer) == 0).all()


@settings(max_examples=60, deadline=None)
@given(tasks(), st.integers(0, 2**31))
def test_text_form_round_trips(task, seed):
    batch = task.sample(4, Draws(seed))
    task = PathStar(**{**task.__dict__, "edge_order": "shuffled"})
    for prompt, answer in zip(batch.prompt, batch.answer, strict=True):
        assert task.parse(task.text(prompt, answer)) == (prompt.tolist(), answer.tolist())


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
    gold = walk(edges, start, goal)
    if task.reverse:
        gold = gold[::-1]
    names = [task.vocabulary[token] for token in answer]
    if names == gold:
        return "right"
    path = names[::-1] if task.reverse else names
    steps = list(itertools.pairwise(path))
    walks = path[0] == start and all(pair in edges for pair in steps[:-1])
    if walks and (steps[-1] in edges or (path[-1] == goal and path[-2] not in gold)):
        return "wrong_arm"
    if names[:2] == gold[:2]:
        return "late"
    if path[0] == start and all(name.isdigit() for name in names):
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


@settings(max_examples=40, deadline=None)
@given(tasks(), st.integers(0, 2**31))
def test_distractor_walks_a_wrong_arm(task, seed):
    batch = task.sample(6, Draws(seed))
    wrong = task.distract(batch)
    if task.degree == 1 or task.path_length == 2:
        assert wrong is None
        return
    assert (wrong[:, 0] == batch.answer[:, 0]).all()
    assert (wrong[:, 1] != batch.answer[:, 1]).all()
    assert (task.check(batch.prompt, wrong) == task.outcomes.index("wrong_arm")).all()


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
