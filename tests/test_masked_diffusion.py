"""Masked diffusion against loops in float64: masks, weights and decoding."""

import math

import pytest
import torch
from helpers import LONG_STAR as STAR
from helpers import SUM, gpt_with_large_weights, random_gpt, rows, untied

from forethought.objectives.masked_diffusion import MaskedDiffusion
from forethought.tasks import Batch


def model_of(task=STAR, mask="full"):
    return random_gpt(task, mask=mask)


def lively(mask="full"):
    """A model whose answers differ: one with random tied embeddings says `$` at every `$`."""
    return untied(gpt_with_large_weights(STAR, std=1.0, mask=mask))


def log_probabilities(model, task, prompt, answer):
    """Of every token at every answer position, from the output at that same position."""
    hidden = model(torch.tensor([prompt + answer]), task.prompt_length)[0, task.prompt_length :]
    return model.logits(hidden).log_softmax(1)


def slow_loss(model, task, batch, masked, weight):
    """`weight` says how much a row's token with this cross-entropy counts."""
    total = []
    for row, (prompt, answer) in enumerate(zip(batch.prompt.tolist(), batch.answer.tolist(), strict=True)):
        noisy = [task.dummy if masked[row][i] else token for i, token in enumerate(answer)]
        likely = log_probabilities(model, task, prompt, noisy)
        for i, token in enumerate(answer):
            if masked[row][i]:
                entropy = -likely[i, token].item()
                total.append(weight(row, entropy) * entropy)
    return sum(total) / len(total)


@pytest.mark.parametrize("mask", ["causal", "prefix", "full"])
@pytest.mark.parametrize("task", [STAR, SUM], ids=["path_star", "addition"])
def test_loss_of_mlm_u(task, mask):
    model, batch = model_of(task, mask=mask), rows(task, 4)
    torch.manual_seed(3)
    rate = torch.rand(4, 1).tolist()
    draws = torch.rand(4, task.answer_length).tolist()
    masked = [[draw < rate[row][0] for draw in draws[row]] for row in range(4)]
    expected = slow_loss(model, task, batch, masked, lambda row, entropy: 1)
    torch.manual_seed(3)
    assert MaskedDiffusion(model, task).loss(batch).item() == pytest.approx(expected)


@pytest.mark.parametrize("gamma", [0, 1, 2])
def test_loss_of_mgdm(gamma):
    model, batch = model_of(), rows(STAR, 4)
    torch.manual_seed(3)
    time = torch.randint(6, (4, 1)).flatten().tolist()
    draws = torch.rand(4, STAR.answer_length).tolist()
    masked = [[draw < (time[row] + 1) / 6 for draw in draws[row]] for row in range(4)]
    expected = slow_loss(
        model,
        STAR,
        batch,
        masked,
        lambda row, entropy: (6 - time[row]) * 0.3 * (1 - math.exp(-entropy)) ** gamma,
    )
    objective = MaskedDiffusion(model, STAR, weighting="mgdm", timesteps=6, alpha=0.3, gamma=gamma)
    torch.manual_seed(3)
    assert objective.loss(batch).item() == pytest.approx(expected)


def test_noise_takes_any_share_of_the_answer():
    """Given a rate, tokens are masked one by one; over all rates each number of them is as likely."""
    torch.manual_seed(0)
    answer = torch.zeros(60_000, 5, dtype=torch.long)
    for weighting, numbers in (("uniform", torch.full((6,), 1 / 6)), ("mgdm", None)):
        masked, weight = MaskedDiffusion(model_of(), STAR, weighting=weighting, timesteps=2).noise(answer)
        share = masked.sum(1).bincount(minlength=6) / len(answer)
        if numbers is None:  # T = 2: half of the rows at 1/2, half all masked
            numbers = torch.tensor([math.comb(5, k) / 64 for k in range(6)])
            numbers[5] += 0.5
            assert set(weight.unique().tolist()) == {1.0, 2.0}
            assert masked[weight[:, 0] == 1].all()
        torch.testing.assert_close(share, numbers, atol=0.01, rtol=0)


def test_nothing_masked_no_loss_and_certain_tokens_no_nan():
    objective = MaskedDiffusion(model_of(), STAR, weighting="mgdm", gamma=1)
    weight = torch.ones(4, 1)
    objective.noise = lambda answer: (torch.zeros_like(answer, dtype=torch.bool), weight)
    assert objective.loss(rows(STAR, 4)).item() == 0
    objective.noise = lambda answer: (torch.ones_like(answer, dtype=torch.bool), weight)
    objective.model.logits = lambda hidden: (
        hidden[..., :1] * 0 + 1e4 * torch.nn.functional.one_hot(rows(STAR, 4).answer, len(STAR.vocabulary))
    )
    loss = objective.loss(rows(STAR, 4))
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is None or p.grad.isfinite().all() for p in objective.parameters())


@pytest.mark.parametrize("mask", ["causal", "prefix", "full"])
def test_what_a_masked_token_sees(mask):
    """Revealed tokens: those to its left, or all under `full`; never what is masked, itself least."""
    objective = MaskedDiffusion(model_of(mask=mask), STAR)
    batch = rows(STAR, 1)
    masked = torch.tensor([[False, True, False, True, False]])
    logits = objective.logits(batch.prompt, batch.answer, masked)
    for i in range(5):
        answer = batch.answer.clone()
        answer[0, i] = (answer[0, i] + 1) % STAR.num_nodes
        moved = (objective.logits(batch.prompt, answer, masked) - logits).abs().amax(2)[0] > 0
        for j in (1, 3):
            assert moved[j].item() == (not masked[0, i] and (mask == "full" or i < j))


def test_only_masked_tokens_carry_loss_and_the_prompt_is_never_masked():
    objective, batch = MaskedDiffusion(model_of(), STAR), rows(STAR, 4)
    kept = {}
    objective.model.register_forward_hook(
        lambda model, inputs, output: kept.update(x=inputs[0], hidden=output)
    )
    objective.model.norm.register_forward_hook(lambda norm, inputs, output: output.retain_grad())
    objective.loss(batch).backward()
    tokens = kept["x"]
    assert torch.equal(tokens[:, : STAR.prompt_length], batch.prompt)
    masked = tokens[:, STAR.prompt_length :] == STAR.dummy
    assert masked.any()
    assert not masked.all()
    carrying = kept["hidden"].grad.abs().amax(2) > 0
    assert torch.equal(carrying, masked)


def slow_generate(model, steps, prompt, length, prefix):
    answer, revealed = [STAR.dummy] * length, set(range(len(prefix)))
    answer[: len(prefix)] = prefix
    free = length - len(prefix)
    steps = min(steps, free)
    for step in range(1, steps + 1):
        likely = log_probabilities(model, STAR, prompt, answer)
        guesses = [(likely[i][: STAR.dummy].max().item(), i) for i in range(length) if i not in revealed]
        left = math.floor(free * (steps - step) / steps)
        for _, i in sorted(guesses, reverse=True)[: len(guesses) - left]:
            answer[i] = likely[i][: STAR.dummy].argmax().item()
            revealed.add(i)
    assert len(revealed) == length
    return answer


@pytest.mark.parametrize("mask", ["causal", "full"])
@pytest.mark.parametrize("steps", [None, 1, 2, 3, 20])
@torch.no_grad()
def test_generation(steps, mask):
    model, batch = lively(mask=mask), rows(STAR, 6)
    objective = MaskedDiffusion(model, STAR, steps=steps)
    for prefix in (None, batch.answer[:, :2]):
        answer = objective.generate(batch.prompt, 5, prefix=prefix)
        assert torch.equal(objective.generate(batch.prompt, 5, prefix=prefix), answer)
        for row, prompt in enumerate(batch.prompt.tolist()):
            first = [] if prefix is None else prefix[row].tolist()
            assert answer[row].tolist() == slow_generate(model, steps or 5, prompt, 5, first)
    assert torch.equal(objective.generate(batch.prompt, 5, prefix=batch.answer), batch.answer)


@torch.no_grad()
def test_passes_of_a_decoding_and_their_order():
    """The slow twin would be no judge if every order came to the same: steps matter, so does the order."""
    batch = rows(STAR, 32)
    answers = [MaskedDiffusion(lively(), STAR, steps=steps).generate(batch.prompt, 5) for steps in (1, 2, 5)]
    assert not torch.equal(answers[0], answers[1])
    assert not torch.equal(answers[1], answers[2])
    calls = []
    model = lively()
    model.register_forward_hook(lambda *_: calls.append(1))
    MaskedDiffusion(model, STAR, steps=2).generate(batch.prompt, 5)
    assert len(calls) == 2
    MaskedDiffusion(model, STAR, steps=20).generate(batch.prompt, 5, prefix=batch.answer[:, :2])
    assert len(calls) == 2 + 3


@torch.no_grad()
def test_evaluation_reads_nothing_of_the_answer():
    objective, batch = MaskedDiffusion(lively(), STAR), rows(STAR, 4)
    assert not objective.teacher_forced
    logits = objective.answer_logits(batch)
    other = Batch(batch.prompt, batch.answer.flip(1))
    assert torch.equal(objective.answer_logits(other), logits)
    assert torch.equal(
        MaskedDiffusion(lively(), STAR, steps=1).generate(batch.prompt, 5), logits[..., :-1].argmax(2)
    )


@torch.no_grad()
def test_sampling_at_a_temperature():
    torch.manual_seed(0)
    objective, batch = MaskedDiffusion(lively(), STAR), rows(STAR, 4)
    drawn = [objective.generate(batch.prompt, 5, temperature=2.0) for _ in range(2)]
    assert drawn[0].shape == batch.answer.shape
    assert not torch.equal(*drawn)
