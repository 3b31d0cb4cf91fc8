"""The loss on the deciding tokens alone, against loops in float64."""

import pytest
from helpers import STAR, gpt_with_large_weights, negative_log, next_logits, rows

from forethought.objectives.decision_only import DecisionOnly
from forethought.tasks import Addition, Batch

SUM = Addition(digits=4)


def deciding(task, prompt):
    """Return the answer positions that decide: the first hop; digits left of a run of pairs that make 9.

    The last pair begins no run.
    """
    if task is STAR:
        return [1]
    nine = [prompt[i] + prompt[i + 5] == 9 for i in range(4)]
    return [i for i in range(3) if nine[i] and not (i > 0 and nine[i - 1])]


def slow_loss(model, task, batch):
    total = []
    for prompt, answer in zip(batch.prompt.tolist(), batch.answer.tolist(), strict=True):
        for i in deciding(task, prompt):
            total.append(negative_log(next_logits(model, prompt, answer[:i]), answer[i]))
    return sum(total) / len(total)


@pytest.mark.parametrize("mask", ["causal", "prefix"])
@pytest.mark.parametrize("task", [STAR, SUM], ids=["path_star", "addition"])
def test_loss(task, mask):
    """Over the tokens, not over the rows: sums have none, one or several of them."""
    model, batch = gpt_with_large_weights(task, mask=mask), rows(task, 12)
    if task is SUM:
        assert {0, 1} <= {len(deciding(SUM, prompt)) for prompt in batch.prompt.tolist()}
    assert DecisionOnly(model, task).loss(batch).item() == pytest.approx(slow_loss(model, task, batch))


def test_no_deciding_token_no_loss_and_no_gradient():
    batch = rows(SUM, 64)
    batch = batch[~SUM.decision_mask(batch).any(1)]
    assert len(batch) > 10
    model = gpt_with_large_weights(SUM)
    loss = DecisionOnly(model, SUM).loss(batch)
    loss.backward()
    assert loss.item() == 0
    assert all(parameter.grad.eq(0).all() for parameter in model.parameters())


def test_other_tokens_carry_no_loss():
    """The loss follows the deciding token and what is read before it; its gradient reaches one logit row."""
    model, batch = gpt_with_large_weights(STAR), rows(STAR, 2)
    objective = DecisionOnly(model, STAR)
    kept = []

    def logits(hidden, plain=model.logits):
        kept.append(plain(hidden))
        kept[0].retain_grad()
        return kept[0]

    model.logits = logits
    loss = objective.loss(batch)
    loss.backward()
    assert kept[0].grad.ne(0).any(2).tolist() == [[False, True, False, False]] * 2
    del model.logits
    for position in range(STAR.answer_length):
        answer = batch.answer.clone()
        answer[:, position] = (answer[:, position] + 1) % STAR.num_nodes
        same = objective.loss(Batch(batch.prompt, answer)).item() == pytest.approx(loss.item(), abs=1e-12)
        assert same == (position > 1)
