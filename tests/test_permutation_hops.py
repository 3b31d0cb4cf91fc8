"""Hops along a permutation against a walk of one edge at a time."""

import random

import pytest
import torch
from helpers import lines_of

from forethought.errors import Impossible, InputError
from forethought.tasks import Draws, PermutationHops

TASK = PermutationHops(num_nodes=7, max_hops=6)


def read_rows(task, batch):
    """Edges, node, hops and answer of each row."""
    rows = []
    for tokens, (answer,) in zip(batch.prompt.tolist(), batch.answer.tolist(), strict=True):
        *ends, sign, node = tokens
        edges = dict(zip(ends[::2], ends[1::2], strict=True))
        rows.append((edges, node, int(task.vocabulary[sign].removeprefix("+")), answer))
    return rows


def walk(edges, node, hops):
    for _ in range(hops):
        node = edges[node]
    return node


def test_rows_are_walks_along_a_cycle_through_all_nodes():
    rows = read_rows(TASK, TASK.sample(6000, Draws(0)))
    for edges, node, hops, answer in rows:
        assert walk(edges, node, hops) == answer
        assert {walk(edges, node, k) for k in range(7)} == {*range(7)}
    for values in ([*zip(*rows, strict=True)][1], [row[2] - 1 for row in rows], [row[3] for row in rows]):
        counts = torch.tensor(values).bincount()
        assert (counts - 6000 / len(counts)).abs().max() < 5 * (6000 / len(counts)) ** 0.5
    first = torch.tensor([next(iter(edges)) == node for edges, node, _, _ in rows]).double().mean().item()
    assert abs(first - 1 / 7) < 5 * (1 / 7 / 6000) ** 0.5  # the place of an edge tells nothing


def test_every_possible_answer_has_its_outcome():
    batch = TASK.sample(40, Draws(1))
    for token in range(len(TASK.vocabulary)):
        found = TASK.check(batch.prompt, torch.full_like(batch.answer, token)).tolist()
        for (edges, node, hops, answer), outcome in zip(read_rows(TASK, batch), found, strict=True):
            if token >= 7:
                expected = "other"
            elif token == answer:
                expected = "right"
            else:
                expected = "short" if token in [walk(edges, node, k) for k in range(hops)] else "far"
            assert TASK.outcomes[outcome] == expected


@pytest.mark.parametrize(("nodes", "most"), [(10, 4), (7, 6), (5, 3), (4, 3), (9, 1)])
def test_chance_is_that_of_the_edges_of_the_node_and_a_guess(nodes, most):
    task, rng, guesses = PermutationHops(num_nodes=nodes, max_hops=most), random.Random(0), []
    batch = task.sample(4000, Draws(2))
    for edges, node, hops, _ in read_rows(task, batch):
        before = next(tail for tail, head in edges.items() if head == node)
        known = {1: edges[node], nodes - 1: before}
        others = {*range(nodes)} - {node, *known.values()}
        guesses.append([known[hops] if hops in known else rng.choice([*others])])
    right = task.check(batch.prompt, torch.tensor(guesses)) == 0
    assert right.double().mean().item() == pytest.approx(task.chance, abs=0.03)
    decides = task.decision_mask(batch)[:, 0]
    assert decides.any() == task.needs_plan
    if decides.any():
        assert right[decides].double().mean().item() == pytest.approx(task.decision_chance, abs=0.03)
    assert right[~decides].all()


def test_strata_are_the_hops_and_graphs_are_held_out_with_all_queries():
    batch = TASK.sample(50, Draws(3))
    assert TASK.strata(batch)["hops"].tolist() == [row[2] for row in read_rows(TASK, batch)]
    assert TASK.strata_sizes == {"hops": 7}
    edges = batch.prompt[:, :-2].view(50, 7, 2)
    asked = batch.prompt[:, -2:].roll(1, 0)
    other = torch.cat([edges[:, torch.randperm(7)].flatten(1), asked], 1)
    keys = TASK.fingerprint(batch)
    assert torch.equal(TASK.fingerprint(type(batch)(other, batch.answer)), keys)
    assert len(keys.unique()) == len({frozenset(row[0].items()) for row in read_rows(TASK, batch)})


def test_text_form_round_trips_and_is_drawn():
    batch = TASK.sample(5, Draws(4))
    for line, prompt, row in zip(lines_of(TASK, batch), batch.prompt, read_rows(TASK, batch), strict=True):
        edges, node, hops, answer = row
        listed = [[str(tail), str(head)] for tail, head in edges.items()]
        assert line == f"{'|'.join(map(','.join, listed))}/{node},{hops}={answer}"
        assert TASK.drawing(prompt) == {"edges": listed, "start": str(node), "goal": str(answer)}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("0,1|1,2|2,3|3,0/0,2=x", "malformed"),
        ("0,1|1,2|2,3|3,4/0,2=2", "node 4 is out of range for task.num_nodes=4"),
        ("0,1|1,2|2,3|3,0/0,3=3", "3 hops; expected 1…2"),
        ("0,1|1,0|2,3|3,2/0,1=1", "not one cycle.*task.num_nodes=4"),
        ("0,1|1,2|2,0/0,1=1", "not one cycle"),
        ("0,1|1,2|2,3|3,3/0,1=1", "not one cycle"),
        ("0,1|1,2|2,3|3,0/0,2=3", "3 is not 2 hops after 0"),
    ],
)
def test_bad_lines(line, said):
    with pytest.raises(InputError, match=said):
        PermutationHops(num_nodes=4, max_hops=2).parse(line)


def test_hops_do_not_lead_around():
    with pytest.raises(Impossible, match=r"task.max_hops=7: .*task.num_nodes=7; use at most 6"):
        PermutationHops(num_nodes=7, max_hops=7)
