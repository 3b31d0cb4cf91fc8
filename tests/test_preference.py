"""Preference optimisation against its formulas in loops, in float64."""

import copy
import math

import pytest
import torch
from helpers import next_logits, random_gpt, rows, with_random_weights
from test_value_guided import PARITY, RAGGED

from forethought.objectives import Preference
from forethought.objectives.sampling import sample_answers
from forethought.tasks import PathStar


def log_likelihood(model, prompt, answer, dummy):
    """log π of an answer, reading everything anew for each of its tokens."""
    total = 0.0
    for i, token in enumerate(answer):
        if token != dummy:
            logits = next_logits(model, prompt, answer[:i])[:dummy]
            total = total + logits[token] - logits.exp().sum().log()
    return total


def slow_loss(objective, batch, sampled):
    """The docstring's formula, pair by pair."""
    losses, dummy, beta = [], objective.task.dummy, objective.beta
    for prompt, true, wrong in zip(batch.prompt.tolist(), batch.answer.tolist(), sampled, strict=True):
        if sum(wrong) % 2 == 0:  # accepted
            continue
        prompt = [token for token in prompt if token != dummy]
        delta = 0.0
        for answer, sign in ((true, 1), (wrong, -1)):
            new = log_likelihood(objective.model, prompt, answer, dummy)
            old = log_likelihood(objective.reference.model, prompt, answer, dummy)
            delta = delta + sign * (new - old.item())
        if objective.variant == "ipo":
            losses.append((delta - 1 / (2 * beta)) ** 2)
            continue
        losses.append((1 + (-beta * delta).exp()).log())
        if objective.variant == "rpo":
            weight = objective.nll_weight
            losses[-1] = losses[-1] - weight * log_likelihood(objective.model, prompt, true, dummy)
    assert 0 < len(losses) < len(batch)
    return sum(losses) / len(losses)


@pytest.mark.parametrize(
    ("variant", "task", "mask", "options"),
    [
        ("dpo", PARITY, "prefix", {"beta": 0.5}),
        ("dpo", RAGGED, "causal", {}),
        ("rpo", RAGGED, "causal", {"nll_weight": 0.3}),
        ("ipo", RAGGED, "causal", {"beta": 0.2}),
    ],
)
def test_loss_and_all_its_gradients(variant, task, mask, options):
    """Only pairs count, and the wrong answers are the reference's."""
    model, batch = random_gpt(task, layers=1, mask=mask), rows(task, 6)
    objective = with_random_weights(Preference(model, task, variant, **options))
    torch.manual_seed(1)
    sampled = sample_answers(objective.reference, task, batch.prompt, 1, 1.0).answer
    slow = slow_loss(objective, batch, sampled.tolist())
    torch.manual_seed(1)
    fast = objective.loss(batch)
    torch.testing.assert_close(fast, slow)
    weights = list(objective.model.parameters())
    torch.testing.assert_close(torch.autograd.grad(fast, weights), torch.autograd.grad(slow, weights))


def test_a_batch_without_a_wrong_answer_carries_no_loss():
    class Lenient(PathStar):
        def check(self, prompt, answer):
            return torch.zeros_like(answer[:, 0])

    task = Lenient(degree=2, path_length=2, num_nodes=3)
    objective = Preference(random_gpt(task, layers=1), task, "rpo")
    loss = objective.loss(rows(task))
    loss.backward()
    assert loss == 0
    assert not any(parameter.grad.any() for parameter in objective.model.parameters())


def test_the_reference_is_the_model_of_step_0():
    objective = with_random_weights(Preference(random_gpt(PARITY, layers=1), PARITY))
    start = copy.deepcopy(objective.model.state_dict())
    optimizer = torch.optim.AdamW(objective.parameters())
    losses = []
    for objective.steps in (0, 1):
        losses.append(objective.loss(rows(PARITY)))
        losses[-1].backward()
        optimizer.step()
    assert losses[0].item() == pytest.approx(math.log(2))  # Δ = 0
    torch.testing.assert_close(objective.reference.model.state_dict(), start, rtol=0, atol=0)
    assert not any(parameter.requires_grad for parameter in objective.reference.parameters())
    assert not torch.equal(objective.model.norm.bias, objective.reference.model.norm.bias)
