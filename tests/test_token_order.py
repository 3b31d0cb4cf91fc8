"""Token order prediction against its formula written out in loops, in float64."""

import math

import pytest
import torch
from helpers import STAR, SUM, gpt, rows, with_random_weights

from forethought.objectives.token_order import TokenOrder


def build(task=STAR, mask="causal", **options):
    return with_random_weights(TokenOrder(gpt(task, mask=mask), task, **options))


def slow_loss(objective, batch):
    model = objective.model
    next_token, order = [], []
    for prompt, answer in zip(batch.prompt.tolist(), batch.answer.tolist(), strict=True):
        for i, token in enumerate(answer):
            hidden = model(torch.tensor([prompt + answer[:i]]), len(prompt))[0, -1]
            next_token.append(-model.logits(hidden).log_softmax(0)[token])
            window = objective.window or len(answer)
            mass = {}
            for delta, upcoming in enumerate(answer[i:], 1):
                if delta <= window and upcoming not in mass:
                    mass[upcoming] = math.exp(window - delta)
            predicted = objective.order.weight.matmul(hidden).log_softmax(0)
            total = sum(mass.values())
            order.append(-sum(m / total * predicted[v] for v, m in mass.items()))
    return sum(next_token) / len(next_token) + objective.weight * sum(order) / len(order)


@pytest.mark.parametrize("task", [STAR, SUM])
@pytest.mark.parametrize("mask", ["causal", "prefix"])
@pytest.mark.parametrize("options", [{}, {"window": 1}, {"window": 2, "weight": 0.3}])
def test_loss(task, mask, options):
    objective = build(task, mask=mask, **options)
    expected = slow_loss(objective, rows(task)).item()
    assert objective.loss(rows(task)).item() == pytest.approx(expected)


def test_scores_by_hand():
    """0904 in a window of 3: the nearer 0 counts, and what lies behind or too far ahead does not."""
    score = build(SUM, window=3).scores(torch.tensor([[0, 9, 0, 4]]))[0]
    finite = [{v: s for v, s in enumerate(row) if s > -math.inf} for row in score.tolist()]
    assert finite == [{0: -1, 9: -2}, {9: -1, 0: -2, 4: -3}, {0: -1, 4: -2}, {4: -1}]
