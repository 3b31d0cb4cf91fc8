"""Any-order autoregression against loops in float64: positions, attention and decoding."""

import pytest
import torch
from helpers import STAR, SUM, gpt, rows, untied, with_large_weights

from forethought.errors import InputError
from forethought.objectives.any_order import AnyOrder

ORDERS = ["left_to_right", "right_to_left"]


def any_order(task=STAR, order="left_to_right", **changed):
    objective = with_large_weights(AnyOrder(gpt(task, **changed), task, order=order), std=1.0)
    untied(objective.model)
    return objective


def log_probabilities(objective, prompt, known, position):
    """Of the token at answer `position`; `known` is a list of (answer position, token) in reading order."""
    model, length = objective.model, len(prompt)
    tokens = prompt + [token for _, token in known]
    at = list(range(length)) + [length + i for i, _ in known]
    following = [*at[1:], length + position]
    inputs = [
        model.embedding.weight[token] + objective.next_position.weight[then]
        for token, then in zip(tokens, following, strict=True)
    ]
    hidden = model(torch.stack(inputs)[None], length, positions=torch.tensor(at))
    return model.logits(hidden)[0, -1].log_softmax(0)


@pytest.mark.parametrize("changed", [{}, {"mask": "prefix"}, {"positions": "rotary"}], ids=str)
@pytest.mark.parametrize("task", [STAR, SUM], ids=["path_star", "addition"])
def test_loss(task, changed):
    objective, batch = any_order(task, **changed), rows(task)
    torch.manual_seed(3)
    orders = torch.rand(batch.answer.shape).argsort(1).tolist()
    assert len(set(map(tuple, orders))) == 3
    total = []
    for prompt, answer, order in zip(batch.prompt.tolist(), batch.answer.tolist(), orders, strict=True):
        for i, position in enumerate(order):
            known = [(j, answer[j]) for j in order[:i]]
            total.append(-log_probabilities(objective, prompt, known, position)[answer[position]].item())
    torch.manual_seed(3)
    assert objective.loss(batch).item() == pytest.approx(sum(total) / len(total))


def test_a_token_is_predicted_from_those_before_it_in_the_order():
    objective, batch = any_order(), rows(count=1)
    order = torch.tensor([[2, 0, 3, 1]])
    read = batch.answer[:, [2, 0, 3]]
    logits = objective.logits(batch.prompt, read, order)
    for i in range(3):
        other = read.clone()
        other[0, i] = (other[0, i] + 1) % STAR.num_nodes
        moved = (objective.logits(batch.prompt, other, order) - logits).abs().amax(2)[0] > 0
        assert moved.tolist() == [j > i for j in range(4)]


@pytest.mark.parametrize("changed", [{}, {"mask": "prefix"}, {"positions": "rotary"}], ids=str)
@pytest.mark.parametrize("order", ORDERS)
@torch.no_grad()
def test_generation(order, changed):
    """With the cache, against reading everything anew for each token."""
    objective, batch = any_order(order=order, **changed), rows(count=6)
    for prefix in (None, batch.answer[:, :1], batch.answer[:, :3], batch.answer):
        answer = objective.generate(batch.prompt, 4, prefix=prefix)
        assert torch.equal(objective.generate(batch.prompt, 4, prefix=prefix), answer)
        for row, prompt in enumerate(batch.prompt.tolist()):
            known = [] if prefix is None else list(enumerate(prefix[row].tolist()))
            unread = range(len(known), 4)
            for position in unread if order == "left_to_right" else reversed(unread):
                token = log_probabilities(objective, prompt, known, position)[: STAR.dummy].argmax().item()
                known.append((position, token))
            assert answer[row].tolist() == [token for _, token in sorted(known)]


@torch.no_grad()
def test_orders_of_decoding_differ():
    left, right = (any_order(order=order).generate(rows(count=32).prompt, 4) for order in ORDERS)
    assert not torch.equal(left, right)


@pytest.mark.parametrize("order", ORDERS)
@torch.no_grad()
def test_logits_of_an_evaluation(order):
    """From left to right: from the true prefix. From right to left: from the prompt alone."""
    objective, batch = any_order(order=order), rows()
    assert objective.teacher_forced == (order == "left_to_right")
    logits = objective.answer_logits(batch)
    for row, (prompt, answer) in enumerate(zip(batch.prompt.tolist(), batch.answer.tolist(), strict=True)):
        for i in range(4):
            known = list(enumerate(answer[:i])) if objective.teacher_forced else []
            slow = log_probabilities(objective, prompt, known, i)
            torch.testing.assert_close(logits[row, i].log_softmax(0), slow)


def test_longer_answers_than_positions_are_rejected():
    with pytest.raises(InputError, match=r"26 tokens: .* at most 25"):
        any_order(positions="rotary").generate(rows().prompt, 5)


def test_initialisation():
    objective = AnyOrder(gpt(width=32), STAR)
    assert objective.next_position.weight.std().item() == pytest.approx(0.02, rel=0.1)
