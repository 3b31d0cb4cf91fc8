"""Block diffusion against loops in float64, one block at a time and without the mask of all blocks."""

import pytest
import torch
from helpers import LONG_STAR as STAR
from helpers import gpt_with_large_weights, negative_log, next_logits, rows, untied

from forethought.objectives.block_diffusion import BlockDiffusion
from forethought.objectives.masked_diffusion import MaskedDiffusion
from forethought.tasks import Batch

P, A = STAR.prompt_length, STAR.answer_length


def build(length=2, mask="causal", **options):
    """With an output layer of its own, as a random tied one says `$` at every `$`."""
    return BlockDiffusion(untied(gpt_with_large_weights(STAR, mask=mask, std=0.4)), STAR, length, **options)


def block_logits(objective, prompt, true, noisy):
    """Return the logits of one block from lists: the prompt, the true blocks before, the block itself."""
    length, tokens = objective.block_length, prompt + true + noisy

    def sees(t, s):
        if t < P or s < P:
            return s <= t or (s < P and objective.model.mask == "prefix")
        return (s - P) // length <= (t - P) // length

    mask = torch.tensor([[sees(t, s) for s in range(len(tokens))] for t in range(len(tokens))])
    positions = torch.arange(len(tokens))
    hidden = objective.model(torch.tensor([tokens]), P, positions=positions, attention_mask=mask)
    return objective.model.logits(hidden[0, -len(noisy) :])


def slow_loss(objective, batch, masked, weight):
    length, losses = objective.block_length, []
    for row, (prompt, answer) in enumerate(zip(batch.prompt.tolist(), batch.answer.tolist(), strict=True)):
        for start in range(0, A, length):
            block = answer[start : start + length]
            hidden = [STAR.dummy if masked[row, start + i] else y for i, y in enumerate(block)]
            likely = block_logits(objective, prompt, answer[:start], hidden).log_softmax(1)
            losses += [
                -likely[i, y] * weight[row, start + i] for i, y in enumerate(block) if masked[row, start + i]
            ]
    return sum(losses) / (batch.answer.numel() if objective.weighting == "nelbo" else masked.sum())


@pytest.mark.parametrize(
    ("length", "mask", "options"),
    [
        (2, "causal", {"min_rate": 0.0}),
        (3, "prefix", {"weighting": "uniform"}),
        (None, "prefix", {"min_rate": 0.3, "max_rate": 0.8}),
    ],
)
def test_loss_and_all_its_gradients(length, mask, options):
    objective, batch = build(length, mask, **options), rows(STAR, 6)
    torch.manual_seed(3)
    count = 1 if length is None else -(-A // length)
    low, high = objective.min_rate, objective.max_rate
    rate = (low + (high - low) * torch.rand(6, count)).repeat_interleave(length or A, 1)[:, :A]
    masked = torch.rand(6, A) < rate
    weight = torch.ones_like(rate) if objective.weighting == "uniform" else 1 / rate
    slow = slow_loss(objective, batch, masked, weight)
    torch.manual_seed(3)
    fast = objective.loss(batch)
    torch.testing.assert_close(fast, slow)
    parameters = list(objective.parameters())
    torch.testing.assert_close(torch.autograd.grad(fast, parameters), torch.autograd.grad(slow, parameters))


@pytest.mark.parametrize("weighting", ["nelbo", "uniform"])
def test_blocks_of_one_masked_token_are_left_to_right(weighting):
    """Each token from the true ones before it, under the model's own causal mask, at a `$` of its own."""
    objective, batch = build(1, weighting=weighting, min_rate=1.0), rows(STAR, 4)
    losses = [
        negative_log(next_logits(objective.model, prompt, [*answer[:i], STAR.dummy]), token)
        for prompt, answer in zip(batch.prompt.tolist(), batch.answer.tolist(), strict=True)
        for i, token in enumerate(answer)
    ]
    assert objective.loss(batch).item() == pytest.approx(sum(losses) / len(losses))
    assert objective.left_to_right


@torch.no_grad()
def test_one_block_is_masked_diffusion():
    """Under the prompt's own mask and answer tokens that see each other, all numbers are its."""

    class OneBlock(MaskedDiffusion):
        def read(self, inputs, prompt, last=None):
            mask = torch.ones(inputs.shape[1], inputs.shape[1], dtype=torch.bool)
            mask[:P] = mask[:P].tril()
            return super().read(inputs, prompt, last, attention_mask=mask)

    objective, batch = build(None, weighting="uniform", min_rate=0.0, steps=2), rows(STAR, 8)
    masked_diffusion = OneBlock(objective.model, STAR, steps=2)
    values = []
    for trained in (objective, masked_diffusion):
        torch.manual_seed(3)
        values.append((trained.loss(batch), trained.answer_logits(batch), trained.generate(batch.prompt, A)))
        assert not trained.teacher_forced
    torch.testing.assert_close(*values)


@torch.no_grad()
def test_what_a_masked_token_sees():
    """The prompt, what is revealed in its block and before: nothing else changes a bit of its logits."""
    objective, batch = build(2), rows(STAR, 1)
    masked = torch.tensor([[True, False, True, False, True]])
    logits = objective.logits(batch.prompt, batch.answer, masked)
    for i in range(A):
        answer = batch.answer.clone()
        answer[0, i] = (answer[0, i] + 1) % STAR.num_nodes
        changed = (objective.logits(batch.prompt, answer, masked) != logits).any(2)[0].tolist()
        expected = [i // 2 < j // 2 or (i // 2 == j // 2 and not masked[0, i]) for j in range(A)]
        assert changed == expected


@torch.no_grad()
def test_rates_are_drawn_for_each_block():
    torch.manual_seed(0)
    answer = torch.zeros(20_000, A, dtype=torch.long)
    masked, weight = build(2, min_rate=0.25, max_rate=0.75).noise(answer)
    rate = 1 / weight
    assert rate.min() < 0.26
    assert rate.max() > 0.74
    assert torch.equal(rate[:, 0::2][:, :2], rate[:, 1::2])  # alike within blocks of 2, 2 and 1
    assert (rate[:, :4].diff(dim=1)[:, 1] != 0).all()
    for low in (0.25, 0.5):
        share = masked[(rate >= low) & (rate < low + 0.25)].double().mean().item()
        assert share == pytest.approx(low + 0.125, abs=0.01)
    assert build(min_rate=0.0).noise(answer)[1].max() <= 1000


def slow_generate(objective, prompt, prefix):
    length, answer = objective.block_length, list(prefix)
    while len(answer) < A:
        start = len(answer) // length * length
        true, block = answer[:start], answer[start:]
        hidden = set(range(len(block), min(length, A - start)))
        block += [STAR.dummy] * len(hidden)
        steps, total = min(objective.passes or length, len(hidden)), len(hidden)
        for step in range(1, steps + 1):
            likely = block_logits(objective, prompt, true, block).log_softmax(1)[:, : STAR.dummy]
            surest = sorted(hidden, key=lambda i: -likely[i].max().item())
            for i in surest[: len(hidden) - total * (steps - step) // steps]:
                block[i] = likely[i].argmax().item()
                hidden.remove(i)
        answer = true + block
    return answer


@pytest.mark.parametrize(("length", "steps"), [(1, None), (2, None), (3, 2), (3, 1), (99, 3)])
@torch.no_grad()
def test_generation(length, steps):
    objective, batch = build(length, steps=steps), rows(STAR, 4)
    for given in (0, 2, A):  # a prefix may end inside a block
        prefix = batch.answer[:, :given]
        answer = objective.generate(batch.prompt, A, prefix=prefix)
        expected = [
            slow_generate(objective, *row) for row in zip(batch.prompt.tolist(), prefix.tolist(), strict=True)
        ]
        assert answer.tolist() == expected
        assert given or len(answer.unique(dim=0)) == len(answer)
    if steps == 1:  # evaluation reads what decoding in one pass a block would
        answer = objective.generate(batch.prompt, A)
        logits = objective.answer_logits(Batch(batch.prompt, answer))
        assert torch.equal(logits[..., : STAR.dummy].argmax(2), answer)
