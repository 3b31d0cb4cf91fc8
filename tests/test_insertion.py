"""Insertion against its formula written out in loops, in float64: loss, gradients, drawing and decoding."""

import math

import pytest
import torch
from helpers import LONG_STAR as STAR
from helpers import gpt, rows, with_large_weights, with_random_weights
from test_padding import TASK as RAGGED

from forethought.objectives.insertion import Insertion
from forethought.tasks import Batch, Draws

DROPPED = torch.tensor(
    [[False] * 5, [True] * 5, [True, False, True, True, False], [False, False, True, False, False]]
)


def build(mask="full"):
    return with_random_weights(Insertion(gpt(STAR, mask=mask), STAR))


def lively(mask="full"):
    """Answers that differ, of which some stop early and some do not."""
    objective = with_large_weights(Insertion(gpt(STAR, mask=mask), STAR), std=1.0)
    output = torch.randn_like(objective.model.embedding.weight)  # untied: else a token follows itself
    objective.model.logits = lambda hidden: hidden @ output.T
    objective.missing.bias.data.fill_(3.0)
    return objective


def slow_predict(objective, prompt, tokens):
    """(slots, V) log-probabilities after each of the tokens, and the logit of `missing`."""
    model, start = objective.model, len(prompt)
    read = prompt + tokens + [STAR.dummy] * (STAR.answer_length - len(tokens))
    hidden = model(torch.tensor([read]), start)[0, start - 1 : start + len(tokens)]
    logits = model.logits(hidden)
    missing = objective.missing.weight[0] @ hidden[-1] + objective.missing.bias[0]
    return logits - logits.exp().sum().log(), missing


def slow_loss(objective, batch, dropped):
    losses = []
    for prompt, answer, drop in zip(
        batch.prompt.tolist(), batch.answer.tolist(), dropped.tolist(), strict=True
    ):
        kept, lost = [], []
        for token, gone in zip(answer, drop, strict=True):
            if gone:
                lost.append((len(kept), token))
            else:
                kept.append(token)
        log_p, missing = slow_predict(objective, prompt, kept)
        loss = torch.log1p((-missing if lost else missing).exp())
        for slot, token in lost:
            loss = loss - log_p[slot, token] / len(lost)
        losses.append(loss)
    return sum(losses) / len(losses)


@pytest.mark.parametrize("mask", ["causal", "prefix", "full"])
def test_loss_and_all_its_gradients(mask):
    """The rows lose no token, all, and some of them."""
    objective, batch = build(mask), rows(STAR, 4)
    objective.drop = lambda answer: DROPPED
    parameters = list(objective.parameters())
    slow, fast = slow_loss(objective, batch, DROPPED), objective.loss(batch)
    torch.testing.assert_close(fast, slow)
    expected = torch.autograd.grad(slow, parameters)
    torch.testing.assert_close(torch.autograd.grad(fast, parameters), expected)


def test_any_number_of_tokens_is_dropped_and_any_of_them():
    """Each number, none and all included, is as likely; so is each set of that size; padding stays."""
    torch.manual_seed(0)
    answer = torch.tensor([1, 2, 3, RAGGED.end, RAGGED.dummy]).expand(60_000, -1)
    dropped = Insertion(gpt(RAGGED), RAGGED).drop(answer)
    assert not dropped[:, 4].any()
    sets = (dropped.long() * 2 ** torch.arange(5)).sum(1).bincount(minlength=32) / len(answer)
    expected = torch.tensor([1 / 5 / math.comb(4, s.bit_count()) for s in range(16)])
    torch.testing.assert_close(sets[:16], expected, atol=0.005, rtol=0)


def test_no_slot_sees_a_dropped_token():
    objective, batch, read = build(), rows(STAR, 4), []
    objective.drop = lambda answer: DROPPED
    objective.model.register_forward_pre_hook(lambda model, inputs: read.append(inputs[0].clone()))
    objective.loss(batch)
    objective.loss(Batch(batch.prompt, batch.answer.where(~DROPPED, (batch.answer + 1) % STAR.num_nodes)))
    assert torch.equal(*read)


def slow_insert(objective, prompt, prefix):
    """The answer, and the log-probabilities that each token was chosen from."""
    tokens, chosen_from = list(prefix), [None] * len(prefix)
    while len(tokens) < STAR.answer_length:
        log_p, missing = slow_predict(objective, prompt, tokens)
        if missing <= 0:
            break
        choices = [
            (log_p[slot, token].item(), slot, token)
            for slot in range(len(prefix), len(tokens) + 1)
            for token in range(STAR.dummy)
        ]
        _, slot, token = max(choices)
        tokens.insert(slot, token)
        chosen_from.insert(slot, log_p[slot])
    empty = STAR.answer_length - len(tokens)
    chosen_from += [slow_predict(objective, prompt, tokens)[0][-1]] * empty
    return tokens + [STAR.dummy] * empty, chosen_from


@pytest.mark.parametrize("mask", ["causal", "full"])
@torch.no_grad()
def test_generation_and_the_logits_of_the_evaluation(mask):
    objective, batch = lively(mask), rows(STAR, 16)
    lengths = set()
    for prefix in (None, batch.answer[:, :2], batch.answer):
        answers = objective.generate(batch.prompt, 5, prefix=prefix)
        logits = objective.answer_logits(batch)
        for row, prompt in enumerate(batch.prompt.tolist()):
            given = [] if prefix is None else prefix[row].tolist()
            tokens, chosen_from = slow_insert(objective, prompt, given)
            assert answers[row].tolist() == tokens
            if prefix is None:
                torch.testing.assert_close(logits[row], torch.stack(chosen_from))
                lengths.add(5 - tokens.count(STAR.dummy))
    assert {5} < lengths  # some rows stop early
    assert not objective.left_to_right
    other = Batch(batch.prompt, batch.answer.flip(1))
    assert torch.equal(objective.answer_logits(other), logits)


@torch.no_grad()
def test_sampling_at_a_temperature():
    torch.manual_seed(0)
    objective, batch = lively(), rows(STAR, 16)
    drawn = [objective.generate(batch.prompt, 5, temperature=2.0) for _ in range(2)]
    assert not torch.equal(*drawn)


@torch.no_grad()
def test_an_end_token_is_inserted_like_any_token():
    """The written answer ends at its first end token, wherever and whenever that was inserted."""
    objective = with_large_weights(Insertion(gpt(RAGGED), RAGGED))
    plain = objective.model.logits
    objective.model.logits = lambda hidden: plain(hidden) + 30 * torch.eye(10)[RAGGED.end]
    batch = RAGGED.sample(4, Draws(3))
    objective.missing.bias.fill_(30.0)
    answer = objective.generate(batch.prompt, RAGGED.answer)
    assert answer.tolist() == [[RAGGED.end] + [RAGGED.dummy] * 4] * 4
