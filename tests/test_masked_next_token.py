"""Next-token prediction from a damaged prefix, against loops in float64."""

import pytest
import torch
from pydantic import ValidationError

from forethought.errors import Impossible
from forethought.models import GPT
from forethought.objectives import NextToken
from forethought.objectives.masked_next_token import MaskedNextToken
from forethought.tasks import Batch, PathStar

TASK = PathStar(degree=2, path_length=5, num_nodes=10)
KINDS = [(corruption, positions) for corruption in ("mask", "replace") for positions in ("uniform", "span")]


def gpt(**changed):
    torch.manual_seed(0)
    values = {"layers": 2, "width": 16, "heads": 2, **changed}
    length = TASK.prompt_length + TASK.answer_length
    model = GPT(vocabulary_size=len(TASK.vocabulary), context_length=length, **values).double()
    for parameter in model.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.7)  # large enough for rows to be answered differently
    return model


def rows(count=3):
    return TASK.sample(count, torch.Generator().manual_seed(2))


def inputs_of(objective, batch):
    """What the model read in one loss, and the loss."""
    read = []
    objective.model.register_forward_pre_hook(lambda _, arguments: read.append(arguments[0]))
    loss = objective.loss(batch).item()
    return read[0][:, : TASK.prompt_length], read[0][:, TASK.prompt_length :], loss


def slow(model, prompts, reads, answers):
    """-log p(true token | prompt, what was read before it), one token at a time."""
    total = []
    for prompt, read, answer in zip(prompts.tolist(), reads.tolist(), answers.tolist(), strict=True):
        for i, token in enumerate(answer):
            logits = model.logits(model(torch.tensor([prompt + read[:i]]), TASK.prompt_length))[0, -1]
            total.append((logits.exp().sum().log() - logits[token]).item())
    return sum(total) / len(total)


@pytest.mark.parametrize("mask", ["causal", "prefix"])
@pytest.mark.parametrize(("corruption", "positions"), KINDS)
def test_loss(corruption, positions, mask):
    batch = rows()
    objective = MaskedNextToken(gpt(mask=mask), TASK, corruption, positions, 0.6)
    prompt, read, loss = inputs_of(objective, batch)
    assert torch.equal(prompt, batch.prompt)
    changed = read != batch.answer[:, :-1]
    assert changed.any()
    if corruption == "mask":
        assert (read[changed] == TASK.dummy).all()
    assert loss == pytest.approx(slow(gpt(mask=mask), batch.prompt, read, batch.answer))


@pytest.mark.parametrize(("corruption", "positions"), KINDS)
def test_share_and_place_of_the_damage(corruption, positions):
    """A share of `rate`, in runs where it should be, over all positions; replacements from all tokens."""
    torch.manual_seed(1)
    tokens = torch.full((20_000, 5), -1)
    for rate in (0.0, 0.3, 0.5, 1.0):
        read = MaskedNextToken(gpt(), TASK, corruption, positions, rate).damage(tokens)
        damaged = read != tokens
        assert damaged.double().mean().item() == pytest.approx(rate, abs=0.01)
        tokens_seen = set(read[damaged].tolist())
        if rate > 0:
            everything = set(range(len(TASK.vocabulary)))
            assert tokens_seen == ({TASK.dummy} if corruption == "mask" else everything)
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
    damaged = MaskedNextToken(gpt(), TASK, positions="span", rate=0.4).damaged(torch.zeros(20_000, 5).long())
    first = damaged.int().argmax(1).bincount() / 20_000
    torch.testing.assert_close(first, torch.full((4,), 0.25), atol=0.02, rtol=0)


def test_masked_tokens_do_not_reach_the_model():
    """Everything masked: another prefix gives the same logits, but for the targets the loss is the same."""
    objective = MaskedNextToken(gpt(), TASK, rate=1.0)
    batch = rows()
    other = Batch(batch.prompt, batch.answer.roll(1, 0))
    logits = []
    objective.model.logits = lambda hidden, plain=objective.model.logits: (
        logits.append(plain(hidden)),
        logits[-1],
    )[1]
    losses = [objective.loss(batch).item(), objective.loss(other).item()]
    assert torch.equal(*logits)
    assert losses[0] != losses[1]


def test_without_damage_it_is_next_token_prediction():
    batch = rows()
    assert MaskedNextToken(gpt(), TASK, rate=0.0).loss(batch) == NextToken(gpt(), TASK).loss(batch)


def test_evaluation_reads_the_true_prefix():
    batch = rows()
    damaged, plain = MaskedNextToken(gpt(), TASK, rate=1.0), NextToken(gpt(), TASK)
    assert torch.equal(damaged.answer_logits(batch), plain.answer_logits(batch))


@torch.no_grad()
def test_generation_and_round_trip():
    model, batch = gpt(), rows()
    objective = MaskedNextToken(model, TASK, rate=1.0)
    answer = objective.generate(batch.prompt, 5)
    for row, prompt in enumerate(batch.prompt.tolist()):
        read = list(prompt)
        for _ in range(5):
            read.append(model.logits(model(torch.tensor([read])))[0, -1].argmax().item())
        assert answer[row].tolist() == read[len(prompt) :]
    other = MaskedNextToken(gpt(), TASK, rate=1.0)
    torch.nn.init.normal_(other.model.embedding.weight)
    assert not torch.equal(other.generate(batch.prompt, 5), answer)
    other.load_state_dict(objective.state_dict())
    assert torch.equal(other.generate(batch.prompt, 5), answer)


@pytest.mark.parametrize(("corruption", "positions"), [("mask", "uniform"), ("replace", "span")])
def test_overfits_one_batch_through_its_own_generation(corruption, positions):
    model = gpt(width=32).float()
    model.initialise(model)
    objective = MaskedNextToken(model, TASK, corruption, positions, 0.3)
    batch = rows(8)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=3e-3)
    for step in range(1500):
        loss = objective.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 25 == 0 and torch.equal(objective.generate(batch.prompt, 5), batch.answer):
            return
    raise AssertionError(f"not learned by heart; the loss stands at {loss.item()}")


def test_refusals_by_name():
    with pytest.raises(Impossible, match=r"model\.mask=full: MaskedNextToken"):
        MaskedNextToken(gpt(mask="full"), TASK)
    for name, value in (("rate", 1.5), ("corruption", "drop"), ("positions", "all")):
        with pytest.raises(ValidationError, match=name):
            MaskedNextToken(gpt(), TASK, **{name: value})
