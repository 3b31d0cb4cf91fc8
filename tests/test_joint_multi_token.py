"""Joint multi-token prediction against its formula written out in loops, in float64."""

import math

import pytest
import torch
from helpers import STAR, gpt, negative_log, rows, slow_norm, with_large_weights, with_random_weights

from forethought.evaluation.grad_flow import grad_flow
from forethought.objectives.joint_multi_token import JointMultiToken

P, A, D = STAR.prompt_length, STAR.answer_length, 16


def joint(mask="causal", horizon=3, **options):
    """With random weights, γ of `paper` excepted."""
    return with_random_weights(JointMultiToken(gpt(width=D, mask=mask), STAR, horizon, **options))


def slow_fetch(objective, inputs):
    """The attention written out for its last query, with the bias of its place for each key."""
    fetch = objective.fetch
    zero = torch.zeros(3 * D, dtype=torch.float64)
    weight, bias = fetch.input.weight, fetch.input.bias if fetch.input.bias is not None else zero
    projected = [weight @ x + bias for x in inputs]
    parts, place = [], len(inputs) - 1
    for head in range(fetch.heads):
        size = D // fetch.heads
        q, k, v = (slice(part * D + head * size, part * D + (head + 1) * size) for part in range(3))
        scores = [projected[-1][q] @ x[k] / math.sqrt(size) for x in projected]
        if objective.variant == "nextlat":
            scores = [score + fetch.place_bias[head, place, j] for j, score in enumerate(scores)]
        weights = [score.exp() for score in scores]
        parts.append(sum(w / sum(weights) * x[v] for w, x in zip(weights, projected, strict=True)))
    out = fetch.output.weight @ torch.cat(parts)
    return out if fetch.output.bias is None else out + fetch.output.bias


def slow_state(objective, hidden, current, tokens):
    """Return what predicts the token after `tokens`, which come after the `current` one."""
    embedded = [objective.model.embedding.weight[token] for token in (current, *tokens)]
    inputs = [e + objective.hidden_scale * hidden for e in embedded]
    if objective.variant == "paper":
        return hidden + slow_fetch(objective, inputs[1:]) if tokens else hidden
    out = slow_fetch(objective, [slow_norm(x, objective.window_norm) for x in inputs])
    if tokens:
        out = out + hidden
    return out / (out.pow(2).mean() + 1e-5).sqrt() * objective.norm.weight


def slow_losses(objective, batch):
    """-log p by distance: lists over all positions, for the next token, the one after it, …"""
    losses = [[] for _ in range(objective.horizon)]
    for prompt, answer in zip(batch.prompt.tolist(), batch.answer.tolist(), strict=True):
        for start in range(A):
            read = prompt + answer[:start]
            hidden = objective.model(torch.tensor([read]), P)[0, -1]
            for i in range(min(objective.horizon, A - start)):
                state = slow_state(objective, hidden, read[-1], answer[start : start + i])
                losses[i].append(negative_log(objective.model.logits(state), answer[start + i]))
    return losses


@pytest.mark.parametrize("mask", ["causal", "prefix"])
@pytest.mark.parametrize(("horizon", "gamma", "heads"), [(2, 0.5, 1), (4, None, 2), (3, 2.0, 1)])
def test_loss(mask, horizon, gamma, heads):
    objective = joint(mask, horizon, hidden_scale=gamma, heads=heads, weight=0.7)
    batch = rows(count=2)
    first, *others = slow_losses(objective, batch)
    expected = (sum(first) + 0.7 * sum(map(sum, others))) / (2 * A)
    assert objective.loss(batch).item() == pytest.approx(expected)


@pytest.mark.parametrize("mask", ["causal", "prefix"])
@pytest.mark.parametrize(("horizon", "heads"), [(2, 1), (4, 2), (3, 1)])
def test_loss_of_the_later_code(mask, horizon, heads):
    objective = joint(mask, horizon, variant="nextlat", heads=heads, weight=0.7)
    batch = rows(count=2)
    first, *others = [sum(losses) / len(losses) for losses in slow_losses(objective, batch)]
    expected = first + 0.7 * sum(others) / len(others)
    assert objective.loss(batch).item() == pytest.approx(expected)


def test_initial_values():
    for variant, gamma in (("paper", 0.5), ("nextlat", 0.1)):
        default = JointMultiToken(gpt(), STAR, variant=variant)
        given = JointMultiToken(gpt(), STAR, variant=variant, hidden_scale=1)
        for objective, expected in ((default, gamma), (given, 1)):
            assert torch.as_tensor(objective.hidden_scale).item() == pytest.approx(expected)
    learned = {name for name, _ in given.named_parameters() if not name.startswith("model.")}
    assert learned == {
        *("hidden_scale", "fetch.input.weight", "fetch.output.weight", "fetch.place_bias"),
        *("window_norm.weight", "window_norm.bias", "norm.weight"),
    }
    assert not given.fetch.place_bias.any()


@pytest.mark.parametrize("mask", ["causal", "prefix"])
@torch.no_grad()
def test_the_later_code_decodes_through_the_attention(mask):
    objective = with_large_weights(JointMultiToken(gpt(width=D, mask=mask), STAR, variant="nextlat"))
    objective.hidden_scale.fill_(0.5)
    objective.window_norm.weight.fill_(1)
    batch = rows(count=4)
    logits = objective.answer_logits(batch)
    answers = objective.generate(batch.prompt, A)
    for row, (prompt, answer) in enumerate(zip(batch.prompt.tolist(), batch.answer.tolist(), strict=True)):
        for known, found in ((answer, None), (answers[row].tolist(), answers[row])):
            for start in range(A):
                read = prompt + known[:start]
                hidden = objective.model(torch.tensor([read]), P)[0, -1]
                expected = objective.model.logits(slow_state(objective, hidden, read[-1], []))
                if found is None:
                    torch.testing.assert_close(logits[row, start], expected)
                else:
                    assert found[start] == expected.argmax()


def test_gradients_reach_all_that_was_read():
    objective = joint(variant="nextlat")
    flow = grad_flow(objective, rows(count=2))
    assert flow.shape == (A, P + A - 1)
    assert flow[-1].min() > 0
