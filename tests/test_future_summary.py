"""Future summary prediction against its formula written out in loops, in float64."""

import pytest
import torch
from helpers import STAR, SUM, carries_loss, gpt, greedy, rows, with_random_weights
from pydantic import ValidationError

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


def test_prompt_tokens_carry_no_loss():
    """No gradient reaches the last hidden state of any prompt token but the last."""
    carrying = carries_loss(build(), rows()).any(0)
    assert carrying.tolist() == [False] * (STAR.prompt_length - 1) + [True] * STAR.answer_length


def test_the_summary_layer_hears_the_summary_alone():
    """Next-token loss leaves z alone, and the summary leaves the model's own output layer alone."""
    objective = build(weight=0.0)
    objective.loss(rows()).backward()
    assert not objective.summary.weight.grad.any()
    objective = build()
    objective.model.logits = lambda hidden, plain=objective.model.logits: plain(hidden).detach()
    objective.loss(rows()).backward()
    assert objective.summary.weight.grad.any()
    never_read = STAR.dummy  # its embedding could hear of the loss through the output layer alone
    assert not objective.model.embedding.weight.grad[never_read].any()


@torch.no_grad()
def test_inference_drops_the_summary_layer():
    objective, batch = build(), rows()
    answer = objective.generate(batch.prompt, 4)
    logits = objective.answer_logits(batch)
    objective.summary.weight.fill_(torch.nan)
    assert torch.equal(objective.generate(batch.prompt, 4), answer)
    assert torch.equal(objective.answer_logits(batch), logits)
    assert torch.equal(greedy(objective.model, batch.prompt, 4), answer)


def test_invalid_options_are_rejected():
    with pytest.raises(ValidationError, match="window"):
        build(window=1)
    with pytest.raises(ValidationError, match="weight"):
        build(weight=-1.0)
