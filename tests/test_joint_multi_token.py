"""Joint multi-token prediction against its formula written out in loops, in float64."""

import math

import pytest
import torch
from helpers import STAR, gpt, negative_log, rows, with_random_weights

from forethought.objectives.joint_multi_token import JointMultiToken

P, A, D = STAR.prompt_length, STAR.answer_length, 16


def joint(mask="causal", horizon=3, **options):
    return with_random_weights(JointMultiToken(gpt(width=D, mask=mask), STAR, horizon, **options))


def slow_state(objective, hidden, tokens, gamma, heads):
    """Return what predicts the token after `tokens`: the attention written out for its last query."""
    if not tokens:
        return hidden
    fetch = objective.fetch
    inputs = [gamma * hidden + objective.model.embedding.weight[token] for token in tokens]
    projected = [fetch.input.weight @ x + fetch.input.bias for x in inputs]
    parts = []
    for head in range(heads):
        size = D // heads
        q, k, v = (slice(part * D + head * size, part * D + (head + 1) * size) for part in range(3))
        scores = [(projected[-1][q] @ x[k] / math.sqrt(size)).exp() for x in projected]
        parts.append(sum(score / sum(scores) * x[v] for score, x in zip(scores, projected, strict=True)))
    return hidden + fetch.output.weight @ torch.cat(parts) + fetch.output.bias


def slow_loss(objective, batch, horizon, gamma, heads):
    total = 0.0
    for prompt, answer in zip(batch.prompt.tolist(), batch.answer.tolist(), strict=True):
        for start in range(A):
            hidden = objective.model(torch.tensor([prompt + answer[:start]]), P)[0, -1]
            for target in range(start, min(start + horizon, A)):
                state = slow_state(objective, hidden, answer[start:target], gamma, heads)
                total += negative_log(objective.model.logits(state), answer[target])
    return total / (len(batch) * A)


@pytest.mark.parametrize("mask", ["causal", "prefix"])
@pytest.mark.parametrize(("horizon", "gamma", "heads"), [(2, 0.5, 1), (4, 0.5, 2), (3, 2.0, 1)])
def test_loss(mask, horizon, gamma, heads):
    objective = joint(mask=mask, horizon=horizon, hidden_scale=gamma, heads=heads)
    expected = slow_loss(objective, rows(count=2), horizon, gamma, heads)
    assert objective.loss(rows(count=2)).item() == pytest.approx(expected)
