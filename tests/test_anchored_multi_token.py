"""Anchored multi-token prediction against its formula written out in loops, in float64."""

from itertools import pairwise

import pytest
import torch
from helpers import STAR, gpt, rows, with_random_weights

from forethought.evaluation import diagnose
from forethought.objectives import AnchoredMultiToken, MultiToken
from forethought.tasks import Draws, PathStar, TransitivePath

P, A = STAR.prompt_length, STAR.answer_length
MIXED = PathStar(degree=3, min_degree=2, path_length=4, min_path_length=3)  # has end tokens
FIXED = TransitivePath(num_nodes=12, edge_probability=0.4)


def build(task=STAR, mask="causal", **options):
    return with_random_weights(AnchoredMultiToken(gpt(task, mask=mask), task, **options))


def slow_loss(objective, batch, horizon, latent_weight, semantic_weight):
    model, total = objective.model, 0.0
    for prompt, answer in zip(batch.prompt.tolist(), batch.answer.tolist(), strict=True):
        sequence = prompt + answer
        states = model(torch.tensor([sequence[:-1]]), P)[0]
        for target in range(P, P + A):
            for i in range(1, horizon + 1):
                hidden = states[target - i]
                if i > 1:
                    hidden = objective.heads[i - 2].weight @ hidden
                    token = model.embedding.weight[sequence[target]].detach()
                    total += latent_weight * ((hidden - states[target - 1].detach()) ** 2).mean()
                    total += semantic_weight * ((hidden - token) ** 2).mean()
                total -= model.logits(hidden).log_softmax(0)[sequence[target]]
    return total / (len(batch) * A)


@pytest.mark.parametrize("mask", ["causal", "prefix"])
@pytest.mark.parametrize(("horizon", "weights"), [(4, (0.3, 0.7)), (2, (0.0, 0.1))])
def test_loss_and_all_its_gradients(mask, horizon, weights):
    """Values, and what flows: the true states and embeddings are constants of the twin."""
    latent, semantic = weights
    objective = build(mask=mask, horizon=horizon, latent_weight=latent, semantic_weight=semantic)
    fast, slow = objective.loss(rows()), slow_loss(objective, rows(), horizon, latent, semantic)
    torch.testing.assert_close(fast, slow)
    parameters = list(objective.parameters())
    expected = torch.autograd.grad(slow, parameters)
    for got, want in zip(torch.autograd.grad(fast, parameters), expected, strict=True):
        torch.testing.assert_close(got, want)


def test_without_anchors_the_maps_are_linear_heads():
    """Multi-token prediction with linear heads on the normed states: W_i = U T_i."""
    objective = build(horizon=3, latent_weight=0.0, semantic_weight=0.0)
    linear = MultiToken(objective.model, STAR, horizon=3, heads="linear").double()
    for head, transfer in zip(linear.heads, objective.heads, strict=True):
        head.weight.data = objective.model.embedding.weight @ transfer.weight
    plain, linear.head_state = linear.head_state, lambda i, *rest: plain(1, *rest)
    torch.testing.assert_close(objective.loss(rows()), linear.loss(rows()))


def edges_of(task, prompt):
    """Of one row, as pairs of answer tokens, from the task's picture or its fixed graph."""
    if isinstance(task, TransitivePath):
        return task._world().edges.tolist()
    listed = [[int(node) for node in edge] for edge in task.drawing(prompt)["edges"]]
    start = int(task.drawing(prompt)["start"])
    # A star, whichever way its edges are listed: walk from the start.
    edges, ends = [], [start]
    while ends:
        node = ends.pop()
        for a, b in listed:
            other = b if a == node else a if b == node else None
            if other is not None and [other, node] not in edges:
                edges.append([node, other])
                ends.append(other)
    tokens = [task.vocabulary.index(str(node)) for node in range(task.num_nodes)]
    heads = tokens
    if task.node_ids == "by_role":
        heads = [task.vocabulary.index(f">{node}") for node in range(task.num_nodes)]
    named = [[tokens[a] if a == start else heads[a], heads[b]] for a, b in edges]
    return [edge[::-1] for edge in named] if task.reverse else named


TASKS = {
    "star": STAR,
    "mixed": MIXED,
    "by role, reversed": PathStar(degree=2, path_length=4, node_ids="by_role", reverse=True),
    "undirected": PathStar(degree=3, path_length=3, flip_edges=True),
    "fixed": FIXED,
}


@pytest.mark.parametrize("name", TASKS)
@torch.no_grad()
def test_illegal_steps(name):
    """Row by row and position by position, by walking along the edges."""
    task = TASKS[name]
    objective, batch = build(task, horizon=3), task.sample(4, Draws(1))
    sums, counts = [0.0] * 3, [0] * 3
    for prompt, answer in zip(batch.prompt, batch.answer, strict=True):
        edges = edges_of(task, prompt)
        written = [token for token in answer.tolist() if token not in (task.end, task.dummy)]
        assert all([a, b] in edges for a, b in pairwise(written))
        padding = (prompt == task.dummy)[None] if task.padded_prompts else None
        for place in range(len(written)):
            read = torch.cat([prompt, answer[: place + 1]])[None]
            seen = padding if padding is None else torch.nn.functional.pad(padding, (0, place + 1))
            state = objective.model(read, len(prompt), padding=seen)[0, -1]
            legal = {written[place]}
            for i in range(1, 4):
                legal = {b for a, b in edges if a in legal}
                if place + i >= len(written):
                    break
                hidden = state if i == 1 else objective.heads[i - 2](state)
                q = objective.model.logits(hidden)[: task.dummy].softmax(0)
                sums[i - 1] += sum(p.item() for token, p in enumerate(q) if token not in legal)
                counts[i - 1] += 1
    metrics = diagnose(objective, task, batch)
    for i in range(1, 4):
        assert metrics.get(f"illegal_step_{i}") == (
            pytest.approx(sums[i - 1] / counts[i - 1]) if counts[i - 1] else None
        )
    assert counts[1] > 0


def test_answers_that_are_no_path_have_no_illegal_steps():
    task = PathStar(degree=2, path_length=3, scratchpad="reversed_path")
    assert build(task).diagnostics(task.sample(2, Draws(0)), task) == {}
