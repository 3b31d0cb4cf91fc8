"""Triangles of a hidden graph against slow, obvious twins."""

import itertools
import random

import pytest
import torch
from helpers import lines_of

from forethought.errors import InputError
from forethought.tasks import Data, Draws, TriangleDiscovery

TASK = TriangleDiscovery(num_nodes=9, planted=7, train_samples=40)


def learned():
    """Edges and triangles that many rows show."""
    triangles = {frozenset(answer) for answer in TASK.sample(2000, Draws(1)).answer.tolist()}
    pairs = {frozenset(pair) for corners in triangles for pair in itertools.combinations(corners, 2)}
    return pairs, triangles


EDGES, TRIANGLES = learned()


def outcome(answer):
    edges = [frozenset(answer[place : place + 2]) for place in (0, 2, 4)]
    nodes = frozenset().union(*edges)
    shape = len(nodes) == len({*edges}) == 3 and min(map(len, edges)) == 2
    if shape and max(nodes) < 9:
        return "right" if {*edges} <= EDGES else "missing_edge"
    return "open" if {*edges} <= EDGES else "other"


def test_the_graph_is_made_of_triangles_and_rows_are_uniform_over_all():
    rows = TASK.sample(4000, Draws(0))
    assert {*map(outcome, rows.answer.tolist())} == {"right"}
    closed = {
        frozenset(corners)
        for corners in itertools.combinations(range(9), 3)
        if {frozenset(pair) for pair in itertools.combinations(corners, 2)} <= EDGES
    }
    assert closed == TRIANGLES
    assert len(closed) > 7
    counts = {}
    for answer in rows.answer.tolist():
        counts[tuple(answer)] = counts.get(tuple(answer), 0) + 1
    expected = 4000 / (6 * len(closed))
    assert len(counts) == 6 * len(closed)
    assert all(abs(count - expected) < 5 * expected**0.5 for count in counts.values())
    few = TASK.sample(3, Draws(0))
    assert torch.equal(torch.cat([few.prompt, few.answer], 1), torch.cat([rows.prompt, rows.answer], 1)[:3])
    other = TriangleDiscovery(num_nodes=9, planted=7, graph_seed=1).sample(500, Draws(0)).answer.tolist()
    assert {*map(frozenset, other)} != TRIANGLES


def test_outcomes_and_objects():
    generator, answers = random.Random(0), []
    for _ in range(3000):
        nodes = [generator.randrange(9) for _ in range(3)]
        edges = [nodes[:2], nodes[1:], nodes[::2]]
        for edge in edges:
            generator.shuffle(edge)
        generator.shuffle(edges)
        answers.append([*itertools.chain(*edges)])
        answers.append([*itertools.chain(*generator.sample([*map(sorted, EDGES)], 3))])
        answers.append(generator.sample(nodes * 2, 6))
    for answer in answers[::5]:
        answer[generator.randrange(6)] = generator.choice([*range(9), 9, TASK.dummy])
    prompts, answers = TASK.sample(1, Draws(0)).prompt.expand(len(answers), -1), torch.tensor(answers)
    outcomes = [TASK.outcomes[i] for i in TASK.check(prompts, answers).tolist()]
    assert outcomes == [outcome(answer) for answer in answers.tolist()]
    assert {*outcomes} == {*TASK.outcomes}
    keys = TASK.canonical(prompts, answers).tolist()
    pairs = {
        (frozenset(answer), key)
        for answer, key, kind in zip(answers.tolist(), keys, outcomes, strict=True)
        if kind == "right"
    }
    assert len(pairs) == len({key for _, key in pairs}) == len(TRIANGLES)


def test_accepted_tokens_and_chance():
    rows = TASK.sample(6000, Draws(2))
    generator, hits = random.Random(0), 0
    neighbours = {node: {*frozenset().union(*(e for e in EDGES if node in e))} - {node} for node in range(9)}
    for u, v, *_ in rows.answer.tolist():
        w = generator.choice(sorted(neighbours[v] - {u}))
        hits += outcome([u, v, v, w, w, u]) == "right"
    assert abs(hits / 6000 - TASK.chance) < 4 * (TASK.chance * (1 - TASK.chance) / 6000) ** 0.5
    assert TASK.chance < 0.9
    for answer, accepted in zip(rows[:30].answer.tolist(), TASK.accepted(rows[:30]), strict=True):
        u, v, _, w, *_ = answer
        expected = [{*range(9)}, neighbours[u], {v}, neighbours[u] & neighbours[v], {w}, {u}]
        expected[0] = {node for node in range(9) if neighbours[node]}
        assert [{*mask.nonzero()[:, 0].tolist()} for mask in accepted] == expected
    assert TASK.decision_mask(rows[:1]).tolist() == [[False, False, False, True, False, False]]


def test_new_triangles_in_the_test_and_text():
    task = TriangleDiscovery(num_nodes=20, planted=60)
    data = Data(task, 0, 64)
    trained, test = data.training_set, data.test(100)
    lines = lines_of(task, trained[:50])
    keys = [{*task.canonical(rows.prompt, rows.answer).tolist()} for rows in (trained, test)]
    assert not keys[0] & keys[1]
    assert min(map(len, keys)) > 5
    for wrong, message in (
        (lines[0].replace("|", ","), r"form u,v\|u,v\|…"),
        (lines[0][:6] + "0,1|1,2|2,20", "node 20 is out of range"),
        (lines[0][:6] + "0,0|0,1|1,0", "other"),
    ):
        with pytest.raises(InputError, match=message):
            task.parse(wrong)
