"""Attention from the decision to landmarks, against an explicit softmax, head by head and token by token."""

import math

import pytest
import torch
import torch.nn.functional as F
from helpers import STAR, gpt, random_gpt, rows, slow_rotary, with_random_weights

from forethought.evaluation import attention_at_decision
from forethought.models import LSTM, LoopedGPT
from forethought.objectives import NextToken, Teacherless
from forethought.objectives.belief_state import BeliefState
from forethought.objectives.myopic import Myopic
from forethought.objectives.plan_tokens import PlanTokens
from forethought.tasks import Addition, PathStar

MIXED = PathStar(degree=3, path_length=4, min_degree=2, min_path_length=2, num_nodes=11)
FORMS = [
    {},
    {"min_degree": 2, "min_path_length": 2, "query_position": "first"},
    {"edge_tokens": "joined", "flip_edges": True},
    {"node_ids": "by_role", "reverse": True},
    {"scratchpad": "reversed_path", "query_position": "first"},
]


@pytest.mark.parametrize("options", FORMS)
def test_landmarks_of_a_star(options):
    """Compare the names of the marked tokens with those in the row's text."""
    task = PathStar(degree=3, path_length=4, num_nodes=11, **options)
    batch = rows(task, 40)
    landmarks = task.landmarks(batch)
    assert list(landmarks) == ["goal", "predecessor", "first_hop"]
    assert all(mask.shape == batch.prompt.shape for mask in landmarks.values())
    for r, (prompt, answer) in enumerate(zip(batch.prompt, batch.answer, strict=True)):
        listed, path = task.text(prompt, answer).split("=")
        edges, query = listed.split("/")
        path, goal = path.split(","), query.split(",")[1]
        if path[-1] != goal:
            path.reverse()
        before, start, hop = path[-2], path[0], path[1]
        inside = dict.fromkeys(("predecessor", "first_hop"), "")
        for edge in edges.split("|"):
            tail, head = edge.split(",")
            if {tail, head} == {before, goal}:
                inside["predecessor"] = edge if task.edge_tokens == "joined" else before
            if {tail, head} == {start, hop}:
                inside["first_hop"] = edge
        marked = {
            name: ",".join(task.vocabulary[token].strip(">") for token in prompt[mask[r]])
            for name, mask in landmarks.items()
        }
        assert marked == {"goal": goal, **inside}
        (place,) = landmarks["goal"][r].nonzero().flatten().tolist()
        assert task.vocabulary[prompt[place - 2]] == "/"
        if task.edge_tokens == "pairs":  # the token is that of the edge, whichever end it is
            (place,) = landmarks["predecessor"][r].nonzero().flatten().tolist()
            beside = prompt[[place - 1, place + 1]].tolist()
            assert goal in {task.vocabulary[token].strip(">") for token in beside}


def slow_weights(model, prompt, answer, position):
    """Return the weights (K, H, T) of one position. Padding is left out of the sequence."""
    dummy = model.embedding.num_embeddings - 1
    padding = sum(token == dummy for token in prompt)
    tokens = torch.tensor(prompt[padding:] + answer)
    length = len(prompt) - padding
    x = model.embedding.weight[tokens]
    if model.position is not None:
        x = x + model.position.weight[: len(tokens)]
    visible = model.build_attention_mask(len(tokens), length)
    table = []
    for block in model.blocks:
        normed, mixed = block.attention_norm(x), []
        q, k, v = block.attention.input(normed).view(len(tokens), 3, model.heads, -1).unbind(1)
        if model.rotary:
            for t in range(len(tokens)):
                for h in range(model.heads):
                    q[t, h], k[t, h] = slow_rotary(q[t, h], t), slow_rotary(k[t, h], t)
        layer = torch.zeros(len(tokens), model.heads, len(tokens), dtype=torch.float64)
        for t in range(len(tokens)):
            for h in range(model.heads):
                sees = [s for s in range(len(tokens)) if visible[t, s]]
                scores = [q[t, h] @ k[s, h] / math.sqrt(q.shape[2]) for s in sees]
                layer[t, h, sees] = torch.stack(scores).exp() / torch.stack(scores).exp().sum()
            mixed.append(torch.cat([layer[t, h] @ v[:, h] for h in range(model.heads)]))
        x = x + block.attention.output(torch.stack(mixed))
        x = x + block.mlp(block.mlp_norm(x)[None])[0]
        table.append(F.pad(layer[position - padding], (padding, 0)))
    return torch.stack(table)


@torch.no_grad()
@pytest.mark.parametrize(
    ("task", "mask", "positions", "kind"),
    [
        (STAR, "causal", "learned", NextToken),
        (STAR, "prefix", "rotary", Myopic),
        (MIXED, "causal", "learned", NextToken),
        (MIXED, "prefix", "rotary", BeliefState),
    ],
)
def test_weights_against_an_explicit_softmax(task, mask, positions, kind):
    objective = kind(random_gpt(task, mask=mask, positions=positions), task)
    batch = rows(task, 5)
    assert (batch.prompt == task.dummy).any() == (task is MIXED)
    found = attention_at_decision(with_random_weights(objective), batch)
    slow = []
    for prompt, answer, deciding in zip(batch.prompt, batch.answer, task.decision_mask(batch), strict=True):
        read = answer[: deciding.int().argmax()].tolist()
        prompt = prompt.tolist()
        slow.append(slow_weights(objective.model, prompt, read, len(prompt) + len(read) - 1))
    for name, mark in task.landmarks(batch).items():
        heads = sum(
            weights[:, :, : len(place)][:, :, place].sum(2) for weights, place in zip(slow, mark, strict=True)
        ) / len(batch)
        torch.testing.assert_close(found[name], torch.stack([heads.mean(1), heads.amax(1)], 1))


def test_where_there_is_attention_to_landmarks():
    looped = LoopedGPT.for_task(STAR, layers=1, loops=3, width=16, heads=2)
    assert attention_at_decision(NextToken(looped, STAR), rows())["goal"].shape == (3, 2)
    teacherless = Teacherless(gpt(extra=1), STAR)
    assert attention_at_decision(teacherless, rows())["goal"].shape == (2, 2)
    for objective in (NextToken(LSTM.for_task(STAR), STAR), PlanTokens(gpt(extra=4), STAR)):
        assert attention_at_decision(objective, rows()) is None
    task = Addition(digits=2)
    assert attention_at_decision(NextToken(gpt(task), task), rows(task)) is None
