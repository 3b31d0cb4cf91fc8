"""MuToR against a twin that interleaves one register at a time, in float64."""

import pytest
import torch
from helpers import LONG_STAR as STAR
from helpers import gpt_with_large_weights, negative_log, rows

from forethought.objectives.register_tokens import RegisterTokens

P, A = STAR.prompt_length, STAR.answer_length


def model_of(**changed):
    return gpt_with_large_weights(STAR, **changed)


def registers(model, max_offset=4, weight=0.3):
    objective = RegisterTokens(model, STAR, max_offset, weight)
    torch.nn.init.normal_(objective.register, std=0.5)
    return objective


def the_call(objective, batch):
    """Return the arguments of the model in one loss, and the loss."""
    calls = []
    hook = objective.model.register_forward_pre_hook(
        lambda _, arguments, named: calls.append(
            (arguments[0].detach(), named["positions"], named["attention_mask"])
        ),
        with_kwargs=True,
    )
    loss = objective.loss(batch)
    hook.remove()
    return *calls[0], loss


def offsets(positions):
    """d of every row: the first register stands on 0-based position P + d - 2."""
    return (positions[:, P + A - 1] - P + 2).tolist()


def slow(objective, batch, drawn):
    """Each register by itself, last in a sequence of what it sees, on the position of its target's reader.

    With nothing after it, and the model's own mask over what is before it.
    """
    model, plain, ahead = objective.model, [], []
    for prompt, answer, d in zip(batch.prompt.tolist(), batch.answer.tolist(), drawn, strict=True):
        for j in range(1, A + 1):
            read = torch.tensor([prompt + answer[: j - 1]])
            plain.append(negative_log(model.logits(model(read, P))[0, -1], answer[j - 1]))
            if j + d - 1 <= A:
                target_reader = P + (j + d - 1) - 1  # from 1: the position of the token before the target
                positions = torch.tensor([*range(P + j - 1), target_reader - 1])
                inputs = torch.cat([model.embed(read), objective.register[None, None]], 1)
                logits = model.logits(model(inputs, P, positions=positions))[0, -1]
                ahead.append(negative_log(logits, answer[j + d - 2]))
    a = objective.register_weight
    return (1 - a) * sum(plain) / len(plain) + a * sum(ahead) / len(ahead)


@pytest.mark.parametrize("positions", ["learned", "rotary"])
@pytest.mark.parametrize("mask", ["causal", "prefix"])
def test_loss(mask, positions):
    objective, batch = registers(model_of(mask=mask, positions=positions), 5), rows(STAR, 6)
    torch.manual_seed(1)
    _, places, _, loss = the_call(objective, batch)
    assert len(set(offsets(places))) > 2
    assert loss.item() == pytest.approx(slow(objective, batch, offsets(places)))


def test_offsets_are_drawn_for_each_row_from_two_on():
    torch.manual_seed(1)
    _, places, _, _ = the_call(registers(model_of(), 4), rows(STAR, 1000))
    drawn = torch.tensor(offsets(places))
    assert drawn.unique().tolist() == [2, 3, 4]
    torch.testing.assert_close(drawn.bincount()[2:] / 1000, torch.full((3,), 1 / 3), atol=0.05, rtol=0)


def test_no_further_positions_are_needed():
    """The largest position is that of the last input token, so the tables of next-token prediction do."""
    objective = registers(model_of(extra=-1), 5)
    _, places, _, _ = the_call(objective, rows(STAR, 50))
    assert places.max() == P + A - 2
    assert RegisterTokens.extra_positions(STAR, max_offset=5) == 0


@pytest.mark.parametrize("mask", ["causal", "prefix"])
def test_who_sees_whom(mask):
    """By perturbing every input in turn: registers reach themselves alone; tokens reach what comes later."""
    model = model_of(mask=mask)
    inputs, places, attention_mask, _ = the_call(registers(model), rows(STAR, 1))
    tokens, count = P + A - 1, A - 1

    def reaches(source, target):
        if source >= tokens:
            return source == target
        if target < tokens:
            return source <= target or (mask == "prefix" and source < P)
        return source < P + (target - tokens)  # register j, from 0, stands before answer token j

    with torch.no_grad():
        plain = model(inputs, P, positions=places, attention_mask=attention_mask)
        for source in range(tokens + count):
            changed = inputs.clone()
            changed[0, source] += torch.randn(16)  # not a constant, which norms take out
            other = model(changed, P, positions=places, attention_mask=attention_mask)
            reached = (other - plain).abs().amax(2)[0] > 1e-9
            assert reached.tolist() == [reaches(source, target) for target in range(tokens + count)]
