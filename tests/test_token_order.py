"""Token order prediction against its formula written out in loops, in float64."""

import math

import pytest
import torch
from helpers import STAR, SUM, carries_loss, gpt, greedy, rows, with_random_weights
from pydantic import ValidationError

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


def test_prompt_tokens_carry_no_loss():
    """No gradient reaches the last hidden state of any prompt token but the last."""
    carrying = carries_loss(build(), rows()).any(0)
    assert carrying.tolist() == [False] * (STAR.prompt_length - 1) + [True] * STAR.answer_length


def test_the_ranking_layer_hears_the_ranking_alone():
    """Next-token loss leaves U alone, and the ranking leaves the model's own output layer alone."""
    objective = build(weight=0.0)
    objective.loss(rows()).backward()
    assert not objective.order.weight.grad.any()
    objective = build()
    objective.model.logits = lambda hidden, plain=objective.model.logits: plain(hidden).detach()
    objective.loss(rows()).backward()
    assert objective.order.weight.grad.any()
    never_read = STAR.dummy  # its embedding could hear of the loss through the output layer alone
    assert not objective.model.embedding.weight.grad[never_read].any()


@torch.no_grad()
def test_inference_drops_the_ranking_layer():
    objective, batch = build(), rows()
    answer = objective.generate(batch.prompt, 4)
    logits = objective.answer_logits(batch)
    objective.order.weight.fill_(torch.nan)
    assert torch.equal(objective.generate(batch.prompt, 4), answer)
    assert torch.equal(objective.answer_logits(batch), logits)
    assert torch.equal(greedy(objective.model, batch.prompt, 4), answer)


def test_invalid_options_are_rejected():
    with pytest.raises(ValidationError, match="window"):
        build(window=0)
    with pytest.raises(ValidationError, match="weight"):
        build(weight=-1.0)
