"""Reverse-augmented prediction against its formula written out in loops, in float64."""

import pytest
import torch
from helpers import STAR, gpt, rows, with_random_weights
from test_padding import TASK as RAGGED

from forethought.objectives.base import flip_written
from forethought.objectives.reverse_augmented import ReverseAugmented
from forethought.tasks import Draws


def build(task=STAR, mask="causal", **options):
    return with_random_weights(ReverseAugmented(gpt(task, mask=mask), task, **options))


def slow_loss(objective, batch, turned):
    """Token by token: what was read so far is a prompt to the model in forward rows alone."""
    model, dummy = objective.model, objective.task.dummy
    losses = {True: [], False: []}
    for prompt, answer, reverse in zip(batch.prompt.tolist(), batch.answer.tolist(), turned, strict=True):
        prompt, answer = ([token for token in part if token != dummy] for part in (prompt, answer))
        text, known = prompt + answer, len(prompt)
        if reverse:
            text, known = text[::-1], 1
        for i in range(known, len(text)):
            hidden = model(torch.tensor([text[:i]]), 0 if reverse else len(prompt))[0, -1]
            losses[reverse].append(-(model.embedding.weight @ hidden).log_softmax(0)[text[i]])
    shares = {True: sum(turned) / len(turned), False: 1 - sum(turned) / len(turned)}
    return sum(shares[kind] * sum(some) / len(some) for kind, some in losses.items() if some)


@pytest.mark.parametrize("mask", ["causal", "prefix"])
@pytest.mark.parametrize("task", [STAR, RAGGED], ids=["path_star", "padded"])
def test_loss_and_all_its_gradients(task, mask):
    """Rows of both directions, in one batch."""
    objective, batch = build(task, mask), task.sample(5, Draws(4))
    torch.manual_seed(0)
    turned = (torch.rand(5) < 0.5).tolist()
    assert 0 < sum(turned) < 5
    torch.manual_seed(0)
    slow, fast = slow_loss(objective, batch, turned), objective.loss(batch)
    torch.testing.assert_close(fast, slow)
    parameters = list(objective.parameters())
    expected = torch.autograd.grad(slow, parameters)
    torch.testing.assert_close(torch.autograd.grad(fast, parameters), expected)


def test_a_batch_of_one_direction():
    objective, batch = build(probability=1.0), rows()
    torch.testing.assert_close(objective.loss(batch), slow_loss(objective, batch, [True] * 3))


def test_flipping_keeps_gaps_and_moves_padding_behind():
    text = torch.tensor([[9, 9, 1, 2, 9, 3, 9], [1, 2, 3, 4, 5, 6, 7], [9] * 7])
    flipped = [[3, 9, 2, 1, 9, 9, 9], [7, 6, 5, 4, 3, 2, 1], [9] * 7]
    assert flip_written(text, 9).tolist() == flipped
