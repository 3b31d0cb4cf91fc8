"""Future summary prediction against its formula written out in loops, in float64."""

import pytest
import torch
from helpers import STAR, SUM, gpt, rows, with_random_weights

from forethought.objectives.future_summary import FutureSummary


def build(task=STAR, mask="causal", **options):
    return with_random_weights(FutureSummary(gpt(task, mask=mask), task, **options))


def slow_loss(objective, batch):
    model = objective.model
    next_token, summary = [], []
    for prompt, answer in zip(batch.prompt.tolist(), batch.answer.tolist(), strict=True):
        for i, token in enumerate(answer):
            hidden = model(torch.tensor([prompt + answer[:i]]), len(prompt))[0, -1]
            next_token.append(-model.logits(hidden).log_softmax(0)[token])
            bag = set(answer[i + 1 : i + (objective.window or len(answer))])
            likely = objective.summary.weight.matmul(hidden).sigmoid()
            summary.append(-sum((p if v in bag else 1 - p).log() for v, p in enumerate(likely)))
    return sum(next_token) / len(next_token) + objective.weight * sum(summary) / len(summary)


@pytest.mark.parametrize("task", [STAR, SUM])
@pytest.mark.parametrize("mask", ["causal", "prefix"])
@pytest.mark.parametrize("options", [{}, {"window": 2}, {"window": 3, "weight": 0.3}])
def test_loss(task, mask, options):
    objective = build(task, mask=mask, **options)
    expected = slow_loss(objective, rows(task)).item()
    assert objective.loss(rows(task)).item() == pytest.approx(expected)


def test_bags_by_hand():
    """0904 up to 3 tokens ahead: the next token counts only where it comes again; the last bag is empty."""
    bag = build(SUM, window=3).bags(torch.tensor([[0, 9, 0, 4]]))[0]
    assert [set(row.nonzero().flatten().tolist()) for row in bag] == [{9, 0}, {0, 4}, {4}, set()]
    assert bag.max() == 1
