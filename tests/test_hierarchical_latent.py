"""Hierarchical latent prediction against its formula written out in loops, in float64."""

import math

import pytest
import torch
from helpers import STAR, gpt, rows, slow_norm, with_random_weights

from forethought.objectives import HierarchicalLatent, NextLatent
from forethought.objectives.added_loss import States
from forethought.tasks import Addition

SUM = Addition(digits=1)  # T = 6: shorter windows at the start than elsewhere


def build(task=STAR, mask="causal", **options):
    return with_random_weights(HierarchicalLatent(gpt(task, mask=mask), task, **options))


def slow_summary(objective, states, t):
    """u_t, from a list of hidden states."""
    module, width = objective.summary, objective.model.width
    query, key, value = (
        lambda x, part=part: module.input.weight.split(width)[part] @ x + module.input.bias.split(width)[part]
        for part in range(3)
    )
    window = states[max(0, t - objective.window + 1) : t + 1]
    scores = torch.stack([query(states[t]) @ key(state) / math.sqrt(width) for state in window])
    mixed = sum(weight * value(state) for weight, state in zip(scores.softmax(0), window, strict=True))
    return slow_norm(module.output.weight @ mixed + module.output.bias, objective.summary_norm)


def slow_losses(objective, batch):
    """Summary and tokens, row by row."""
    norm, first, _, second, _, third = objective.summary_dynamics
    summary, tokens = [], []
    for prompt, answer in zip(batch.prompt.tolist(), batch.answer.tolist(), strict=True):
        sequence = prompt + answer
        states = [*objective.model(torch.tensor([sequence]), len(prompt))[0]]
        u = [slow_summary(objective, states, t) for t in range(len(sequence))]
        for t in range(len(sequence) - objective.window):
            x = slow_norm(u[t], norm)
            for layer in (first, second):
                x = torch.nn.functional.gelu(layer.weight @ x)
            gap = (u[t] + third.weight @ x - u[t + objective.window].detach()).abs()
            summary.append(torch.where(gap < 1, gap**2 / 2, gap - 0.5).mean())
        stopped = [state.detach() for state in states]
        for t in range(len(prompt) - 1, len(sequence) - 1):
            both = torch.cat([states[t], slow_summary(objective, stopped, t)])
            tokens.append(-(objective.combined.weight @ both).log_softmax(0)[sequence[t + 1]])
    return sum(summary) / len(summary), sum(tokens) / len(tokens)


@pytest.mark.parametrize(
    ("task", "mask", "options"),
    [
        (STAR, "prefix", {}),
        (STAR, "causal", {"window": 1, "summary_weight": 0.3, "proj_factor": 0.3}),
        (SUM, "causal", {"window": 3, "combined_weight": 0.7}),
    ],
)
def test_loss_and_all_its_gradients(task, mask, options):
    """Values, and what flows: targets and the windows of the tokens' loss are constants of the twin."""
    objective, batch = build(task, mask, **options), rows(task)
    parameters = list(objective.parameters())
    summary, tokens = slow_losses(objective, batch)
    states = States(objective, batch, {"all"})
    slow = objective.answer_loss(states.logits, batch) + NextLatent.added_loss(objective, states, batch)
    slow = slow + objective.summary_weight * summary + objective.combined_weight * tokens
    fast = objective.loss(batch)
    torch.testing.assert_close(fast, slow)
    expected = torch.autograd.grad(slow, parameters)
    for got, want in zip(torch.autograd.grad(fast, parameters), expected, strict=True):
        torch.testing.assert_close(got, want)


def test_where_the_gradient_of_each_loss_arrives():
    """Of the states: the last k are nothing but targets, and the tokens' loss leaves the windows alone."""
    objective, batch = build(window=3), rows()
    objective.latent_weight = objective.kl_weight = 0.0
    objective.model.logits = lambda hidden, plain=objective.model.logits: plain(hidden.detach())
    states = States(objective, batch, {"all"})
    hidden = states.all
    reached = {}
    for name in ("summary_weight", "combined_weight"):
        objective.summary_weight = objective.combined_weight = 0.0
        setattr(objective, name, 1.0)
        states.all = hidden.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(objective.added_loss(states, batch), states.all)
        reached[name] = (gradient.abs().sum((0, 2)) > 0).nonzero()[:, 0].tolist()
    length = hidden.shape[1]
    assert reached["summary_weight"] == [*range(length - 3)]
    assert reached["combined_weight"] == [*range(STAR.prompt_length - 1, length - 1)]
