"""Bag-window heads against their formula written out in loops, in float64."""

import pytest
import torch
from helpers import STAR, SUM, gpt, rows, with_random_weights

from forethought.objectives.bag_window import BagWindow


def build(task=STAR, mask="causal", **options):
    return with_random_weights(BagWindow(gpt(task, mask=mask), task, **options))


def slow_loss(objective, batch):
    """The next token by the model itself, each window by the model with the head as its last block."""
    model, losses = objective.model, []
    *trunk, last = model.layers
    for prompt, answer in zip(batch.prompt.tolist(), batch.answer.tolist(), strict=True):
        for i, token in enumerate(answer):
            read = torch.tensor([prompt + answer[:i]])
            for window, block in ((1, last), *zip(objective.windows, objective.heads, strict=True)):
                hidden = model(read, len(prompt), layers=[*trunk, block])[0, -1]
                predicted = (model.embedding.weight @ hidden).log_softmax(0)
                bag = answer[i : i + window]
                loss = -sum(predicted[token] for token in bag) / len(bag)
                losses.append(loss if window == 1 else objective.weight * loss)
    return sum(losses) / batch.answer.numel()


@pytest.mark.parametrize("task", [STAR, SUM])
@pytest.mark.parametrize("mask", ["causal", "prefix"])
@pytest.mark.parametrize("options", [{}, {"windows": [3], "weight": 0.3}])
def test_loss_and_all_its_gradients(task, mask, options):
    objective, batch = build(task, mask, **options), rows(task)
    parameters = list(objective.parameters())
    slow, fast = slow_loss(objective, batch), objective.loss(batch)
    torch.testing.assert_close(fast, slow)
    expected = torch.autograd.grad(slow, parameters)
    torch.testing.assert_close(torch.autograd.grad(fast, parameters), expected)


def test_frequencies_by_hand():
    """Of 0904 and its padding: tokens count as often as they occur, and the last windows are shorter."""
    answer = torch.tensor([[0, 9, 0, 4, SUM.dummy]])
    shares = [{v: s for v, s in enumerate(row) if s} for row in build(SUM).frequencies(answer, 3)[0].tolist()]
    third = pytest.approx(1 / 3)
    assert shares == [
        {0: pytest.approx(2 / 3), 9: third},
        {9: third, 0: third, 4: third},
        {0: 0.5, 4: 0.5},
        {4: 1.0},
        {},
    ]


def test_a_window_beyond_the_answer_ends_with_it():
    objective, answer = build(), rows().answer
    torch.testing.assert_close(objective.frequencies(answer, 100), objective.frequencies(answer, 4))
