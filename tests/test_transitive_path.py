"""Paths in a fixed graph against slow, obvious twins."""

import itertools
import random
from collections import Counter
from functools import lru_cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from forethought.errors import Impossible, InputError
from forethought.tasks import Batch, Data, Draws, TransitivePath
from forethought.tasks.base import TEST, TRAIN, VALIDATION

SMALL = TransitivePath(num_nodes=16, edge_probability=0.25)


def successors(task):
    return {node: row.nonzero()[:, 0].tolist() for node, row in enumerate(task._world().is_edge)}


@lru_cache
def paths(source, target):
    """All paths of SMALL."""
    if source == target:
        return [[target]]
    return [[source, *rest] for u in successors(SMALL)[source] for rest in paths(u, target)]


PAIRS = [(s, t) for s in range(16) for t in range(16) if s != t and paths(s, t)]


def as_rows(pairs):
    return Batch(torch.tensor(pairs), torch.zeros(len(pairs), SMALL.answer_length, dtype=torch.long))


def read_rows(task, batch):
    """Source, target and path of each row."""
    rows = []
    for (source, target), answer in zip(batch.prompt.tolist(), batch.answer.tolist(), strict=True):
        length = answer.index(task.end)
        assert answer[length + 1 :] == [task.dummy] * (len(answer) - length - 1)
        rows.append((source, target, answer[:length]))
    return rows


def test_rows_are_paths_of_all_pairs():
    batch = SMALL.sample(20_000, Draws(0))
    rows = read_rows(SMALL, batch)
    assert all(path in paths(source, target) for source, target, path in rows)
    assert max(len(path) for s, t in PAIRS for path in paths(s, t)) == SMALL.answer_length - 1
    assert (SMALL.check(batch.prompt, batch.answer) == 0).all()
    # Twenty random paths of a pair for each single-edge path of an edge.
    edges = [(tail, head) for tail, heads in successors(SMALL).items() for head in heads]
    lines = 20 * len(PAIRS) + len(edges)
    counts = Counter((source, target) for source, target, _ in rows)
    assert counts.keys() == set(PAIRS)
    for pair in PAIRS:
        expected = 20_000 * (20 + (pair in edges)) / lines
        assert abs(counts[pair] - expected) < 5 * expected**0.5


def probability(source, target, path):
    """Of a path whose every step is uniform over the successors that reach the target."""
    if source == target:
        return 1.0
    useful = [u for u in successors(SMALL)[source] if paths(u, target)]
    return probability(path[1], target, path[1:]) / len(useful)


def test_each_step_is_uniform_over_the_successors_that_reach_the_target():
    rows = read_rows(SMALL, SMALL.sample(100_000, Draws(1)))
    edges = [(s, t) for s, t in PAIRS if t in successors(SMALL)[s]]
    source, target = max(set(PAIRS) - set(edges), key=lambda pair: len(paths(*pair)))
    counts = Counter(tuple(path) for s, t, path in rows if (s, t) == (source, target))
    assert len(paths(source, target)) > 3
    for path in paths(source, target):
        expected = counts.total() * probability(source, target, path)
        assert abs(counts[tuple(path)] - expected) < 4 * expected**0.5 + 1
    # Of 21 lines of an edge, one is the edge alone.
    counts = Counter((s, t) for s, t, _ in rows)
    shares = {pair: (20 * probability(*pair, list(pair)) + 1) / 21 for pair in edges}
    expected = sum(counts[pair] * share for pair, share in shares.items())
    variance = sum(counts[pair] * share * (1 - share) for pair, share in shares.items())
    assert abs(sum(len(path) == 2 for _, _, path in rows) - expected) < 4 * variance**0.5


def test_degrees_are_those_of_the_definition():
    """Observed: on a path of a training pair, other than as its source."""
    train = {pair for pair, part in zip(PAIRS, SMALL.part(as_rows(PAIRS)), strict=True) if part == TRAIN}
    observed = {(t, node) for s, t in train for path in paths(s, t) for node in path[1:]}

    def degree(source, target):
        if (target, source) in observed:
            return 0
        after = [degree(u, target) for u in successors(SMALL)[source] if u == target or paths(u, target)]
        return min(3, 1 + min(after, default=3))

    degrees = [degree(*pair) for pair in PAIRS]
    assert SMALL.strata(as_rows(PAIRS))["degree"].tolist() == degrees
    assert {0, 1, 2} <= set(degrees)
    assert SMALL.strata_sizes == {"degree": 4}


def test_pairs_are_divided_and_edges_are_for_training():
    task = TransitivePath(train_share=0.3)
    batch = task.sample(20_000, Draws(0))
    parts = dict(zip(map(tuple, batch.prompt.tolist()), task.part(batch).tolist(), strict=True))
    after = successors(task)
    edges = {(s, t) for s, t in parts if t in after[s]}
    assert all(parts[pair] == TRAIN for pair in edges)
    shares = Counter(part for pair, part in parts.items() if pair not in edges)
    for part, share in ((TRAIN, 0.3), (VALIDATION, 0.7 / 8), (TEST, 0.7 * 7 / 8)):
        assert abs(shares[part] / shares.total() - share) < 4 * (share / shares.total()) ** 0.5


def test_no_pair_is_trained_on_and_tested():
    data = Data(SMALL, 0, 500)
    train, test, validation = (
        {tuple(pair) for pair in rows.prompt.tolist()}
        for rows in (data.batch(0), data.test(500), data.validation(500))
    )
    assert train
    assert not train & test
    assert not train & validation
    assert not test & validation


def test_graph_seed_alone_draws_the_world():
    task = TransitivePath(num_nodes=16, edge_probability=0.25, train_samples=5)
    assert torch.equal(task._world().is_edge, SMALL._world().is_edge)
    other = TransitivePath(num_nodes=16, edge_probability=0.25, graph_seed=1)
    assert not torch.equal(other._world().is_edge, SMALL._world().is_edge)
    shares = [TransitivePath(graph_seed=seed)._world().is_edge.sum().item() for seed in range(20)]
    assert abs(sum(shares) / 20 - 0.1 * 4950) < 4 * (0.09 * 4950 / 20) ** 0.5


def slow_outcome(task, prompt, answer):
    if task.end not in answer or answer[0] != prompt[0]:
        return "other"
    path = answer[: answer.index(task.end)]
    if any(token >= task.num_nodes for token in path):
        return "other"
    after = successors(task)
    if any(head not in after[tail] for tail, head in itertools.pairwise(path)):
        return "missing_edge"
    return "right" if path[-1] == prompt[1] else "wrong_end"


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31))
def test_anatomy_of_errors_against_a_slow_twin(seed):
    """Answers made wrong in every way, or right in another way."""
    rng = random.Random(seed)
    batch = SMALL.sample(30, Draws(seed))
    answers = batch.answer.clone()
    width, after = SMALL.answer_length, successors(SMALL)
    for row, (source, target) in enumerate(batch.prompt.tolist()):
        kind = rng.randrange(5)
        path = rng.choice(paths(source, target))
        if kind == 1:
            path = [source]
            while after[path[-1]] and rng.random() < 0.9:
                path.append(rng.choice(after[path[-1]]))
        written = [*path, SMALL.end]
        if kind == 2:
            written[rng.randrange(len(written))] = rng.randrange(len(SMALL.vocabulary))
        if kind == 3:
            written = [source, *(rng.randrange(SMALL.num_nodes) for _ in range(width - 1))]
        rest = [rng.randrange(len(SMALL.vocabulary)) for _ in range(width - len(written))]
        answers[row] = torch.tensor(written + (rest if kind == 4 else [SMALL.dummy] * len(rest)))
    found = [SMALL.outcomes[i] for i in SMALL.check(batch.prompt, answers).tolist()]
    rows = zip(batch.prompt.tolist(), answers.tolist(), strict=True)
    assert found == [slow_outcome(SMALL, prompt, answer) for prompt, answer in rows]


@pytest.mark.parametrize("task", [SMALL, TransitivePath(num_nodes=40, graph_seed=3)], ids=["16", "40"])
def test_chance_is_that_of_a_random_walk_that_knows_the_edges(task):
    rng, after, count = random.Random(0), successors(task), 4000
    batch = Data(task, 0, 16).test(count)
    answers, width = [], task.answer_length
    for source, target in batch.prompt.tolist():
        path = [source]
        while path[-1] != target and (heads := [u for u in after[path[-1]] if u <= target]):
            path.append(target if target in heads else rng.choice(heads))
        answers.append([*path, task.end, *[task.dummy] * width][:width])
    right = (task.check(batch.prompt, torch.tensor(answers)) == 0).double().mean().item()
    assert 0.1 < task.chance < 0.9
    assert abs(right - task.chance) < 4 * 0.5 / count**0.5


@pytest.mark.parametrize("task", [SMALL, TransitivePath(num_nodes=40, graph_seed=3)], ids=["16", "40"])
def test_decisions_and_accepted_tokens(task):
    """A step is a decision if a random one of its candidates may miss the target."""
    rng, after = random.Random(0), successors(task)
    batch = Data(task, 0, 16).test(4000)
    mask, accepted, hits = task.decision_mask(batch).tolist(), task.accepted(batch), []

    @lru_cache
    def reaches(node, target):
        return node == target or any(reaches(u, target) for u in after[node] if u <= target)

    for row, (_, target, path) in enumerate(read_rows(task, batch)):
        expected = [False] * task.answer_length
        for place, node in enumerate(path[:-1], 1):
            heads = [u for u in after[node] if u <= target]
            useful = [u for u in heads if reaches(u, target)]
            expected[place] = target not in heads and len(useful) < len(heads)
            if expected[place]:
                hits.append(rng.choice(heads) in useful)
            if row < 300:
                assert accepted[row, place].nonzero()[:, 0].tolist() == useful
        assert mask[row] == expected
    others = torch.arange(task.answer_length) >= (batch.answer != task.dummy).sum(1, keepdim=True) - 1
    others[:, 0] = True
    assert torch.equal(accepted.int().argmax(2)[others], batch.answer[others])
    assert (accepted.sum(2)[others] == 1).all()
    assert abs(sum(hits) / len(hits) - task.decision_chance) < 4 * 0.5 / len(hits) ** 0.5


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31))
def test_text_form_round_trips(seed):
    batch = SMALL.sample(6, Draws(seed))
    texts = [SMALL.text(prompt, answer) for prompt, answer in zip(batch.prompt, batch.answer, strict=True)]
    assert texts == [" ".join(map(str, [s, t, *path])) for s, t, path in read_rows(SMALL, batch)]
    read = SMALL.pad(*zip(*map(SMALL.parse, texts), strict=True))
    assert torch.equal(read.prompt, batch.prompt)
    assert torch.equal(read.answer, batch.answer)


def test_the_drawing_has_the_paths_to_the_target():
    source, target = max(PAIRS, key=lambda pair: len(paths(*pair)))
    steps = {step for path in paths(source, target) for step in itertools.pairwise(map(str, path))}
    drawing = SMALL.drawing(torch.tensor([source, target]))
    assert {tuple(edge) for edge in drawing["edges"]} == steps
    assert (drawing["start"], drawing["goal"]) == (str(source), str(target))


def test_bad_lines_name_file_and_line(tmp_path):
    source, target = next(pair for pair in PAIRS if pair[1] not in successors(SMALL)[pair[0]])
    good = " ".join(map(str, [source, target, *paths(source, target)[0]]))
    lines = {
        f"{source} {target}": "malformed",
        f"{good} x": "malformed",
        f"{good}  1": "malformed",
        "0 16 0 16": "node 16 is out of range for task.num_nodes=16; expected 0…15",
        f"{source} {target} {source} {target}": f"not a path from {source} to {target}",
        f"{target} {good.partition(' ')[2]}": f"not a path from {target} to {target}",
        " ".join(good.split()[:-1] * 2): "not a path",
    }
    path = tmp_path / "paths.txt"
    for line, message in lines.items():
        path.write_text(f"{good}\n{line}\n")
        with pytest.raises(InputError, match=message) as caught:
            SMALL.read(str(path))
        assert f"{path}: line 2: " in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [{"num_nodes": 3}, {"edge_probability": 1.0}, {"edge_probability": 1e-6}, {"train_share": 0.9999}],
)
def test_a_graph_without_pairs_to_hold_out(options):
    with pytest.raises(Impossible, match=r"task.num_nodes=.*task.graph_seed=0: .* no pair to hold out"):
        TransitivePath(**{"num_nodes": 30, **options})
