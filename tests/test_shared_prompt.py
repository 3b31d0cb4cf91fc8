"""A prompt read once for several answers: the same numbers as from reading it anew, in fewer tokens."""

import pytest
import torch
from helpers import STAR, gpt, rows, with_large_weights
from test_every_objective import every_objective

from forethought.evaluation import diagnose
from forethought.objectives import NextToken
from forethought.tasks import Batch


def readings(objective, batch):
    """Two rounds of everything that the evaluation asks for."""
    foreign = Batch(batch.prompt, batch.answer.flip(0))
    prefixes = (None, batch.answer[:, :2], batch.answer) if objective.teacher_forced else (None,)
    torch.manual_seed(0)
    for _ in range(2):
        yield from (objective.answer_logits(batch), objective.answer_logits(foreign))
        for prefix in prefixes:
            yield objective.generate(batch.prompt, batch.answer.shape[1], prefix)


@every_objective
@torch.no_grad()
def test_every_objective_reads_the_same(name, case):
    objective = with_large_weights(case.build(name)).eval()
    batch = rows(case.task, 6)
    anew = [*readings(objective, batch)]
    with objective.reads_once(batch.prompt, batch.answer.shape[1]):
        once = [*readings(objective, batch)]
    torch.testing.assert_close(once, anew)


@pytest.mark.parametrize("mask", ["causal", "prefix"])
@torch.no_grad()
def test_any_other_reading_is_as_before(mask):
    objective = with_large_weights(NextToken(gpt(extra=4, layers=2, mask=mask), STAR))
    batch = rows(count=6)
    prompt, whole = batch.prompt, torch.cat([batch.prompt, batch.answer], 1)

    def others():
        yield objective.read(whole, prompt)  # states of the prompt
        yield objective.read(whole, prompt, batch.answer.shape[1] + 2)
        yield objective.read(whole[2:], prompt[2:], 1)  # fewer prompts
        yield objective.read(whole.flip(0), prompt.flip(0), 1)  # in another order
        yield objective.read(torch.cat([whole, whole[:, :2]], 1), prompt, 1)  # a longer answer
        yield objective.read(whole, prompt, 1, norm=False)
        yield objective.read(objective.model.embed(whole), prompt, 1)
        cache = objective.model.init_cache(len(whole), whole.shape[1] + 3)
        yield objective.read(whole, prompt, 1, cache)
        yield objective.read(whole[:, :3], prompt, 1, cache)

    anew = [*others()]
    with objective.reads_once(prompt, batch.answer.shape[1]):
        objective.answer_logits(batch)
        torch.testing.assert_close([*others()], anew)
        with torch.enable_grad():
            objective.loss(batch).backward()
    assert objective.model.embedding.weight.grad.any()


@torch.no_grad()
def test_a_prompt_that_sees_its_answer_is_read_with_each():
    objective = with_large_weights(NextToken(gpt(layers=2), STAR))
    objective.model.mask = "full"
    batch = rows(count=6)
    anew = objective.answer_logits(batch)
    with objective.reads_once(batch.prompt, batch.answer.shape[1]):
        torch.testing.assert_close(objective.answer_logits(batch), anew)


@pytest.mark.parametrize("clever_hans", [False, True])
def test_the_evaluation_reads_each_prompt_once(clever_hans):
    objective, lengths = NextToken(gpt(), STAR), []
    objective.model.embedding.register_forward_hook(lambda _, read, __: lengths.append(read[0].shape[1]))
    diagnose(objective, STAR, rows(count=6), chunk=3, clever_hans=clever_hans)
    assert [length for length in lengths if length >= STAR.prompt_length] == [STAR.prompt_length] * 2
    assert max(length for length in lengths if length != STAR.prompt_length) < STAR.answer_length
