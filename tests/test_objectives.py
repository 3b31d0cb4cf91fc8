"""Each objective against its formula written out in loops, in float64."""

import pytest
import torch
from helpers import STAR, random_gpt, rows, slow_next_token

from forethought.objectives import NextToken, Teacherless
from forethought.objectives.base import sample_token


def slow_teacherless(model, batch):
    dummies = torch.full_like(batch.answer, STAR.dummy)
    return slow_next_token(model, batch.prompt, dummies, batch.answer)


@pytest.mark.parametrize("mask", ["causal", "prefix"])
def test_next_token_loss(mask):
    model, batch = random_gpt(mask=mask), rows()
    expected = slow_next_token(model, batch.prompt, batch.answer, batch.answer)
    assert NextToken(model, STAR).loss(batch).item() == pytest.approx(expected)


@pytest.mark.parametrize("mask", ["causal", "prefix"])
@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_teacherless_loss(mask, weight):
    model, batch = random_gpt(mask=mask), rows()
    next_token = slow_next_token(model, batch.prompt, batch.answer, batch.answer)
    expected = (1 - weight) * slow_teacherless(model, batch) + weight * next_token
    objective = Teacherless(model, STAR, next_token_weight=weight)
    assert objective.loss(batch).item() == pytest.approx(expected)


def test_teacherless_under_a_full_mask_reads_no_answer():
    objective = Teacherless(random_gpt(mask="full"), STAR)
    batch = rows()
    logits = objective.answer_logits(batch)
    other = type(batch)(batch.prompt, batch.answer.flip(1))
    assert torch.equal(objective.answer_logits(other), logits)


def test_teacher_forced_logits_read_the_true_prefix_alone():
    """Logits of answer token i change with tokens before i and with no others."""
    objective = NextToken(random_gpt(), STAR)
    batch = rows(count=1)
    logits = objective.answer_logits(batch)
    for i in range(STAR.answer_length):
        answer = batch.answer.clone()
        answer[0, i] = (answer[0, i] + 1) % STAR.num_nodes
        changed = (objective.answer_logits(type(batch)(batch.prompt, answer)) - logits).abs().amax(2)[0]
        assert (changed > 0).tolist() == [j > i for j in range(STAR.answer_length)]


@torch.no_grad()
def test_generation_in_one_pass():
    model = random_gpt()
    batch = rows()
    answer = Teacherless(model, STAR).generate(batch.prompt, 4)
    for i in range(4):
        read = torch.cat([batch.prompt, torch.full((3, i), STAR.dummy)], 1)
        assert torch.equal(answer[:, i], model.logits(model(read))[:, -1].argmax(1))


def test_sampling_follows_the_softened_distribution():
    torch.manual_seed(0)
    logits = torch.tensor([0.0, 1.0, 2.0]).expand(30_000, 1, 3)
    for temperature in (0.5, 1.0, 2.0):
        drawn = sample_token(logits, temperature)
        assert drawn.shape == (30_000, 1)
        share = drawn.flatten().bincount(minlength=3) / 30_000
        torch.testing.assert_close(share, (logits[0, 0] / temperature).softmax(0), atol=0.01, rtol=0)
        torch.manual_seed(1)
        drawn = sample_token(logits, temperature)
        torch.manual_seed(1)
        assert torch.equal(drawn, torch.multinomial((logits[:, 0] / temperature).softmax(1), 1))
    assert (sample_token(logits, 0.0) == 2).all()
