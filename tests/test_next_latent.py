"""Next-latent prediction against its formula written out in loops, in float64."""

import pytest
import torch
from helpers import STAR, gpt, rows, with_random_weights

from forethought.objectives.next_latent import NextLatent
from forethought.tasks import Addition

SUM = Addition(digits=1)  # T = 6: a prompt shorter than the longest roll-out


def build(task=STAR, mask="causal", horizon=3, **options):
    return with_random_weights(NextLatent(gpt(task, mask=mask), task, horizon=horizon, **options))


def huber(x):
    return x**2 / 2 if abs(x) < 1 else abs(x) - 0.5


def slow_losses(objective, batch):
    """Next-token, SmoothL1 and KL, row by row, start by start, step by step."""
    model = objective.model
    norm, first, _, second, _, third = objective.dynamics
    frozen = model.embedding.weight.detach().clone()
    bias = model.logits(torch.zeros_like(frozen[0])).detach()
    next_token, latent, kl = [], {}, {}
    for prompt, answer in zip(batch.prompt.tolist(), batch.answer.tolist(), strict=True):
        tokens = prompt + answer
        hidden = model(torch.tensor([tokens]), len(prompt))[0]
        for position in range(len(prompt) - 1, len(tokens) - 1):
            next_token.append(-model.logits(hidden[position]).log_softmax(0)[tokens[position + 1]])
        for start in range(len(tokens)):
            state = hidden[start]
            for step in range(1, objective.horizon + 1):
                position = start + step
                if position >= len(tokens):
                    break
                x = torch.cat([state, model.embedding.weight[tokens[position]]])
                x = (x - x.mean()) / (x.var(correction=0) + 1e-5).sqrt() * norm.weight + norm.bias
                for layer in (first, second):
                    x = torch.nn.functional.gelu(layer.weight @ x)
                state = state + third.weight @ x
                distance = [huber(d) for d in state - hidden[position].detach()]
                latent.setdefault(step, []).append(sum(distance) / len(distance))
                if len(prompt) - 1 <= position < len(tokens) - 1:
                    true = (frozen @ hidden[position].detach() + bias).log_softmax(0)
                    guess = (frozen @ state + bias).log_softmax(0)
                    kl.setdefault(step, []).append((true.exp() * (true - guess)).sum())

    def over_steps(terms):
        return sum(sum(t) / len(t) for t in terms.values()) / objective.horizon

    return sum(next_token) / len(next_token), over_steps(latent), over_steps(kl)


CASES = [
    (STAR, "causal", {}),
    (STAR, "prefix", {"horizon": 1}),
    (STAR, "causal", {"latent_weight": 0.0, "kl_weight": 0.7}),
    (STAR, "causal", {"latent_weight": 0.3, "kl_weight": 0.0, "proj_factor": 0.3}),
    (SUM, "causal", {"horizon": 4}),
]


def test_an_output_layer_with_a_bias():
    objective, batch = build(), rows()
    model, bias = objective.model, torch.randn(len(STAR.vocabulary), dtype=torch.float64)
    model.logits = lambda hidden: torch.nn.functional.linear(hidden, model.embedding.weight, bias)
    torch.testing.assert_close(objective.loss(batch), sum(slow_losses(objective, batch)))


@pytest.mark.parametrize(("task", "mask", "options"), CASES)
def test_loss_and_all_its_gradients(task, mask, options):
    """Values, and what flows: targets and the output layer inside the KL are constants of the twin."""
    objective, batch = build(task, mask=mask, **options), rows(task)
    parameters = list(objective.parameters())
    next_token, latent, kl = slow_losses(objective, batch)
    slow = next_token + objective.latent_weight * latent + objective.kl_weight * kl
    fast = objective.loss(batch)
    torch.testing.assert_close(fast, slow)
    expected = torch.autograd.grad(slow, parameters, allow_unused=True)
    for got, want in zip(torch.autograd.grad(fast, parameters), expected, strict=True):
        torch.testing.assert_close(got, torch.zeros_like(got) if want is None else want)


def gradients_of_the_states(which):
    """Of SmoothL1 (0) or KL (1), with respect to the hidden states and to the output layer's weight."""
    objective, batch = build(horizon=2), rows()
    length = batch.prompt.shape[1]
    tokens = torch.cat([batch.prompt, batch.answer], 1)
    hidden = objective.model(tokens).detach().requires_grad_()
    logits = objective.model.logits(hidden[:, length - 1 : -1])
    objective.model.embed = lambda tokens, plain=objective.model.embed: plain(tokens).detach()
    losses = objective.rollout_losses(hidden, tokens, logits, length)
    weight = objective.model.embedding.weight
    return torch.autograd.grad(losses[which], [hidden, weight], allow_unused=True)


def test_targets_and_output_layer_get_no_gradient():
    """Every state but the last is a start, so the last one alone is nothing but a target."""
    smooth, _ = gradients_of_the_states(0)
    reached = smooth.abs().sum((0, 2)) > 0
    assert reached.tolist() == [True] * (len(reached) - 1) + [False]
    kl, head = gradients_of_the_states(1)
    assert head is None
    # KL: prompt states before P - d predict no answer token, and T - 1 is its last target.
    first, last = STAR.prompt_length - 1 - 2, STAR.prompt_length + STAR.answer_length - 2
    assert (kl.abs().sum((0, 2)) > 0).tolist() == [first <= t < last for t in range(kl.shape[1])]


def test_the_roll_out_network():
    """Three layers; the inner width is proj_factor times the 2 · 16 channels read; GPT-2's scale."""
    objective = NextLatent(gpt(width=16), STAR, horizon=1, proj_factor=1.5)
    weights = [layer.weight for layer in objective.dynamics if isinstance(layer, torch.nn.Linear)]
    assert [tuple(weight.shape) for weight in weights] == [(48, 32), (48, 48), (16, 48)]
    assert all(0.015 < weight.std() < 0.025 for weight in weights)
