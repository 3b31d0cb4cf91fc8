"""Future summary prediction against its formula written out in loops, in float64."""

import pytest
import torch
from helpers import STAR, SUM, gpt, rows, with_random_weights
from test_padding import TASK as RAGGED

from forethought.objectives.future_summary import FutureSummary
from forethought.tasks import Batch, Draws


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


def slow_terms(objective, batch):
    """Next token, summary and next token of the reverse model, one token at a time."""
    model, reverse, dummy = objective.model, objective.reverse_model, objective.task.dummy
    terms = [], [], []
    for prompt, answer in zip(batch.prompt.tolist(), batch.answer.tolist(), strict=True):
        prompt, answer = ([token for token in part if token != dummy] for part in (prompt, answer))
        for i, token in enumerate(answer):
            hidden = model(torch.tensor([prompt + answer[:i]]), len(prompt))[0, -1]
            behind = reverse(torch.tensor([[dummy, *answer[:i:-1]]]))[0, -1]
            terms[0].append(-(model.embedding.weight @ hidden).log_softmax(0)[token])
            distance = objective.summary.weight @ hidden - behind.detach()
            terms[1].append(distance.square().mean())
            terms[2].append(-(reverse.embedding.weight @ behind).log_softmax(0)[token])
    return [sum(term) / len(term) for term in terms]


@pytest.mark.parametrize(("task", "mask"), [(STAR, "causal"), (STAR, "prefix"), (RAGGED, "causal")])
def test_loss_of_revlm_and_all_its_gradients(task, mask):
    """Target states are constants of the twin; the two models share no weights."""
    objective, batch = build(task, mask, summary="revlm", weight=0.3), task.sample(4, Draws(4))
    next_token, summary, reverse = slow_terms(objective, batch)
    slow, fast = next_token + 0.3 * summary + reverse, objective.loss(batch)
    torch.testing.assert_close(fast, slow)
    parameters = list(objective.parameters())
    expected = torch.autograd.grad(slow, parameters)
    torch.testing.assert_close(torch.autograd.grad(fast, parameters), expected)


def test_the_reverse_model_learns_as_if_apart():
    """Neither the prompt nor the weights of the model change its gradient."""
    gradients = []
    for seed, weight in ((1, 1.0), (2, 0.0)):
        objective, batch = build(summary="revlm", weight=weight), rows()
        torch.manual_seed(seed)
        with_random_weights(objective.model)
        batch = Batch(torch.randint_like(batch.prompt, STAR.num_nodes), batch.answer)
        objective.loss(batch).backward()
        gradients.append([parameter.grad for parameter in objective.reverse_model.parameters()])
    torch.testing.assert_close(*gradients)
    shared = {id(p) for p in objective.model.parameters()} & {
        id(p) for p in objective.reverse_model.parameters()
    }
    assert not shared
