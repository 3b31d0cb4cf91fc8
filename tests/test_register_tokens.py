"""MuToR against a twin that interleaves one register at a time, in float64."""

import types

import pytest
import torch
from pydantic import ValidationError

from forethought.errors import Impossible
from forethought.models import GPT
from forethought.objectives import NextToken
from forethought.objectives.register_tokens import RegisterTokens
from forethought.tasks import PathStar

TASK = PathStar(degree=2, path_length=5, num_nodes=10)
P, A = TASK.prompt_length, TASK.answer_length


def gpt(context=P + A, **changed):
    torch.manual_seed(0)
    values = {"layers": 2, "width": 16, "heads": 2, **changed}
    model = GPT(vocabulary_size=len(TASK.vocabulary), context_length=context, **values).double()
    for parameter in model.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.7)  # large enough for rows to be answered differently
    return model


def registers(model, max_offset=4, weight=0.3):
    objective = RegisterTokens(model, TASK, max_offset, weight)
    torch.nn.init.normal_(objective.register, std=0.5)
    return objective


def rows(count=3):
    return TASK.sample(count, torch.Generator().manual_seed(2))


def the_call(objective, batch):
    """What the model was given in one loss, and the loss."""
    given = []
    hook = objective.model.register_forward_pre_hook(
        lambda _, arguments, named: given.append((arguments[0].detach(), named["positions"], named["seen"])),
        with_kwargs=True,
    )
    loss = objective.loss(batch)
    hook.remove()
    return *given[0], loss


def offsets(positions):
    """d of every row: the first register stands on 0-based position P + d - 2."""
    return (positions[:, P + A - 1] - P + 2).tolist()


def negative_log(logits, token):
    return (logits.exp().sum().log() - logits[token]).item()


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
    objective, batch = registers(gpt(mask=mask, positions=positions), 5), rows(6)
    torch.manual_seed(1)
    _, places, _, loss = the_call(objective, batch)
    assert len(set(offsets(places))) > 2
    assert loss.item() == pytest.approx(slow(objective, batch, offsets(places)))


def test_offsets_are_drawn_for_each_row_from_two_on():
    torch.manual_seed(1)
    _, places, _, _ = the_call(registers(gpt(), 4), rows(1000))
    drawn = torch.tensor(offsets(places))
    assert drawn.unique().tolist() == [2, 3, 4]
    torch.testing.assert_close(drawn.bincount()[2:] / 1000, torch.full((3,), 1 / 3), atol=0.05, rtol=0)


def test_no_further_positions_are_needed():
    """The largest position is that of the last input token, so the tables of next-token prediction do."""
    objective = registers(gpt(context=P + A - 1), 5)
    _, places, _, _ = the_call(objective, rows(50))
    assert places.max() == P + A - 2
    assert RegisterTokens.extra_positions(TASK, max_offset=5) == 0


@pytest.mark.parametrize("mask", ["causal", "prefix"])
def test_who_sees_whom(mask):
    """By perturbing every input in turn: registers reach themselves alone; tokens reach what comes later."""
    model = gpt(mask=mask)
    inputs, places, seen, _ = the_call(registers(model), rows(1))
    tokens, count = P + A - 1, A - 1

    def reaches(source, target):
        if source >= tokens:
            return source == target
        if target < tokens:
            return source <= target or (mask == "prefix" and source < P)
        return source < P + (target - tokens)  # register j, from 0, stands before answer token j

    with torch.no_grad():
        plain = model(inputs, P, positions=places, seen=seen)
        for source in range(tokens + count):
            changed = inputs.clone()
            changed[0, source] += torch.randn(16)  # not a constant, which norms take out
            other = model(changed, P, positions=places, seen=seen)
            reached = (other - plain).abs().amax(2)[0] > 1e-9
            assert reached.tolist() == [reaches(source, target) for target in range(tokens + count)]


def test_next_token_part_knows_nothing_of_registers():
    """Without weight on registers the loss is next-token prediction's and leaves the register alone."""
    model, batch = gpt(), rows()
    objective = registers(model, weight=0.0)
    loss = objective.loss(batch)
    loss.backward()
    assert loss.item() == pytest.approx(NextToken(model, TASK).loss(batch).item(), rel=1e-12)
    assert objective.register.grad.eq(0).all()
    objective = registers(model, weight=0.5)
    objective.loss(batch).backward()
    assert objective.register.grad.ne(0).all()


@torch.no_grad()
def test_inference_without_registers_and_round_trip():
    model, batch = gpt(), rows()
    objective = registers(model)
    answer, logits = objective.generate(batch.prompt, A), objective.answer_logits(batch)
    for row, prompt in enumerate(batch.prompt.tolist()):
        read = list(prompt)
        for _ in range(A):
            read.append(model.logits(model(torch.tensor([read])))[0, -1].argmax().item())
        assert answer[row].tolist() == read[P:]
    other = registers(gpt())
    torch.nn.init.normal_(other.model.embedding.weight)
    assert not torch.equal(other.generate(batch.prompt, A), answer)
    other.load_state_dict(objective.state_dict())
    assert torch.equal(other.register, objective.register)
    torch.nn.init.normal_(other.register)
    assert torch.equal(other.generate(batch.prompt, A), answer)
    assert torch.equal(other.answer_logits(batch), logits)


def test_overfits_one_batch_through_its_own_generation():
    model = gpt(width=32).float()
    model.initialise(model)
    objective = RegisterTokens(model, TASK)
    batch = rows(8)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=3e-3)
    for step in range(1500):
        loss = objective.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 25 == 0 and torch.equal(objective.generate(batch.prompt, A), batch.answer):
            return
    raise AssertionError(f"not learned by heart; the loss stands at {loss.item()}")


def test_refusals_by_name():
    with pytest.raises(Impossible, match=r"model\.mask=full: RegisterTokens"):
        RegisterTokens(gpt(mask="full"), TASK)
    with pytest.raises(Impossible, match=r"objective\.max_offset=6: the answer has 5 tokens"):
        RegisterTokens(gpt(), TASK, max_offset=6)
    with pytest.raises(Impossible, match="model: SimpleNamespace has no attention mask"):
        RegisterTokens(types.SimpleNamespace(mask="causal"), TASK)
    for name, value in (("max_offset", 1), ("register_weight", 1.0)):
        with pytest.raises(ValidationError, match=name):
            RegisterTokens(gpt(), TASK, **{name: value})
