"""Myopic training against one position at a time, and the map of how far back a loss reaches."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from helpers import STAR, random_gpt, rows

from forethought.evaluation.grad_flow import grad_flow
from forethought.models.layers import Context
from forethought.objectives import NextToken
from forethought.objectives.myopic import Myopic
from forethought.tasks import Addition

P, A = STAR.prompt_length, STAR.answer_length


def slow_loss(model, batch):
    """Each loss from a pass of its own, in which all other positions' hidden states are constants."""
    total = []
    for prompt, answer in zip(batch.prompt.tolist(), batch.answer.tolist(), strict=True):
        tokens = torch.tensor(prompt + answer[:-1])
        x = model.embedding.weight[tokens] + model.position.weight[: len(tokens)]
        constants = []  # what enters each attention, at all positions
        with torch.no_grad():
            hidden = x[None]
            visible = model.build_attention_mask(len(tokens), len(prompt))
            context = Context(torch.arange(len(tokens)), visible)
            for block in model.blocks:
                constants.append(block.attention_norm(hidden[0]))
                hidden = block(hidden, context)
        for i, token in enumerate(answer):
            t = len(prompt) + i - 1
            own = x[t]
            for block, others in zip(model.blocks, constants, strict=True):
                attention, mixed = block.attention, []
                states = [block.attention_norm(own) if s == t else others[s] for s in range(len(tokens))]
                qkv = [attention.input(state).view(3, model.heads, -1) for state in states]
                for head in range(model.heads):
                    q = qkv[t][0, head]
                    scores = [
                        q @ qkv[s][1, head] / math.sqrt(len(q)) for s in range(len(tokens)) if visible[t, s]
                    ]
                    values = [qkv[s][2, head] for s in range(len(tokens)) if visible[t, s]]
                    weights = torch.stack(scores).softmax(0)
                    mixed.append(sum(w * v for w, v in zip(weights, values, strict=True)))
                own = own + attention.output(torch.cat(mixed))
                own = own + block.mlp(block.mlp_norm(own)[None, None])[0, 0]
            logits = model.embedding.weight @ model.norm(own)
            total.append(logits.exp().sum().log() - logits[token])
    return sum(total) / len(total)


@pytest.mark.parametrize(
    ("task", "mask"), [(STAR, "causal"), (STAR, "prefix"), (Addition(digits=2), "causal")]
)
def test_loss_and_its_gradient(task, mask):
    model, batch = random_gpt(task, mask=mask), rows(task, 2)
    loss, slow = Myopic(model, task).loss(batch), slow_loss(model, batch)
    assert loss.item() == pytest.approx(slow.item())
    names, parameters = zip(*model.named_parameters(), strict=True)
    pairs = zip(torch.autograd.grad(loss, parameters), torch.autograd.grad(slow, parameters), strict=True)
    for name, (fast, expected) in zip(names, pairs, strict=True):
        torch.testing.assert_close(fast, expected, msg=name)
        if name == "position.weight":  # no loss shapes a prompt position but the last
            assert (fast.abs().amax(1) > 0).nonzero()[0] == task.prompt_length - 1


@pytest.mark.parametrize(("mask", "positions"), [("causal", "learned"), ("prefix", "rotary")])
def test_grad_flow_against_finite_differences(mask, positions):
    """Move one coordinate of one position's embedding at a time, row by row."""
    model, batch = random_gpt(mask=mask, positions=positions, width=8), rows(count=2)
    step, expected = 1e-5, torch.zeros(A, P + A - 1, dtype=torch.float64)
    for prompt, answer in zip(batch.prompt, batch.answer, strict=True):
        x = model.embed(torch.cat([prompt, answer[:-1]])).detach()
        size = x.numel()
        moved = x + step * torch.eye(size, dtype=torch.float64).view(size, *x.shape)
        back = x - step * torch.eye(size, dtype=torch.float64).view(size, *x.shape)
        losses = []
        for inputs in (moved, back):
            with torch.no_grad():
                logits = model.logits(model(inputs, P)[:, P - 1 :])
            losses.append(F.cross_entropy(logits.mT, answer.expand(size, A), reduction="none"))
        slope = (losses[0] - losses[1]) / (2 * step)  # (T D, A)
        expected += slope.T.view(A, *x.shape).square().sum(2).sqrt() / len(batch)
    torch.testing.assert_close(grad_flow(NextToken(model, STAR), batch), expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("mask", ["causal", "prefix"])
def test_a_myopic_loss_reaches_its_own_position_alone(mask):
    model, own = random_gpt(mask=mask), torch.arange(A)
    myopic, plain = (grad_flow(kind(copy.deepcopy(model), STAR), rows()) for kind in (Myopic, NextToken))
    assert (myopic[own, P - 1 + own] > 0).all()
    myopic[own, P - 1 + own] = 0
    assert (myopic == 0).all()
    reach = (torch.arange(P + A - 1) <= P - 1 + own[:, None]).tolist()
    assert (plain > 0).tolist() == reach


def test_grad_flow_leaves_nothing_behind():
    objective = NextToken(random_gpt(), STAR)
    with torch.no_grad():  # works there too
        before = grad_flow(objective, rows())
    assert all(parameter.grad is None for parameter in objective.parameters())
    assert not objective.model.embedding._forward_hooks
    assert torch.equal(grad_flow(objective, rows()), before)
    assert not before.requires_grad
