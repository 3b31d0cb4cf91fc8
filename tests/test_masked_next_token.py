"""Next-token prediction from a damaged prefix, against loops in float64."""

import pytest
import torch
from helpers import LONG_STAR as STAR
from helpers import gpt_with_large_weights, rows, slow_next_token

from forethought.objectives.masked_next_token import MaskedNextToken
from forethought.tasks import Batch

KINDS = [(corruption, positions) for corruption in ("mask", "replace") for positions in ("uniform", "span")]


def inputs_of(objective, batch):
    """Return what the model read in one loss, and the loss."""
    read = []
    objective.model.register_forward_pre_hook(lambda _, arguments: read.append(arguments[0]))
    loss = objective.loss(batch).item()
    return read[0][:, : STAR.prompt_length], read[0][:, STAR.prompt_length :], loss


@pytest.mark.parametrize("mask", ["causal", "prefix"])
@pytest.mark.parametrize(("corruption", "positions"), KINDS)
def test_loss(corruption, positions, mask):
    batch = rows(STAR)
    objective = MaskedNextToken(gpt_with_large_weights(STAR, mask=mask), STAR, corruption, positions, 0.6)
    prompt, read, loss = inputs_of(objective, batch)
    assert torch.equal(prompt, batch.prompt)
    changed = read != batch.answer[:, :-1]
    assert changed.any()
    if corruption == "mask":
        assert (read[changed] == STAR.dummy).all()
    assert loss == pytest.approx(
        slow_next_token(gpt_with_large_weights(STAR, mask=mask), batch.prompt, read, batch.answer)
    )


@pytest.mark.parametrize(("corruption", "positions"), KINDS)
def test_share_and_place_of_the_damage(corruption, positions):
    """A share of `rate`, in runs where it should be, over all positions; replacements from all tokens."""
    torch.manual_seed(1)
    tokens = torch.full((20_000, 5), -1)
    for rate in (0.0, 0.3, 0.5, 1.0):
        read = MaskedNextToken(gpt_with_large_weights(STAR), STAR, corruption, positions, rate).damage(tokens)
        damaged = read != tokens
        assert damaged.double().mean().item() == pytest.approx(rate, abs=0.01)
        tokens_seen = set(read[damaged].tolist())
        if rate > 0:
            everything = set(range(len(STAR.vocabulary)))
            assert tokens_seen == ({STAR.dummy} if corruption == "mask" else everything)
        patterns = {tuple(row) for row in damaged.tolist()}
        if positions == "span":
            lengths = {int(rate * 5), -int(-rate * 5 // 1)}
            runs = [(first, length) for length in lengths for first in range(5 - length + 1)]
            assert patterns == {
                tuple(first <= i < first + length for i in range(5)) for first, length in runs
            }
        elif 0 < rate < 1:
            assert len(patterns) == 32
            torch.testing.assert_close(
                damaged.double().mean(0), torch.full((5,), rate).double(), atol=0.02, rtol=0
            )


def test_all_places_of_a_span_are_as_likely():
    torch.manual_seed(1)
    damaged = MaskedNextToken(gpt_with_large_weights(STAR), STAR, positions="span", rate=0.4).damaged(
        torch.zeros(20_000, 5).long()
    )
    first = damaged.int().argmax(1).bincount() / 20_000
    torch.testing.assert_close(first, torch.full((4,), 0.25), atol=0.02, rtol=0)


def test_masked_tokens_do_not_reach_the_model():
    """Everything masked: another prefix gives the same logits, but for the targets the loss is the same."""
    objective = MaskedNextToken(gpt_with_large_weights(STAR), STAR, rate=1.0)
    batch = rows(STAR)
    other = Batch(batch.prompt, batch.answer.roll(1, 0))
    logits = []
    objective.model.logits = lambda hidden, plain=objective.model.logits: (
        logits.append(plain(hidden)),
        logits[-1],
    )[1]
    losses = [objective.loss(batch).item(), objective.loss(other).item()]
    assert torch.equal(*logits)
    assert losses[0] != losses[1]
