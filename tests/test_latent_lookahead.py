"""Latent lookahead against loops in float64, one block of slots at a time."""

import pytest
import torch
from helpers import LONG_STAR as STAR
from helpers import gpt_with_large_weights, rows

from forethought.objectives.latent_lookahead import LatentLookahead
from forethought.tasks import Batch

P, A = STAR.prompt_length, STAR.answer_length


def build(slots=3, mask="causal", blocks=None, positions="learned"):
    model = gpt_with_large_weights(STAR, std=0.4, extra=slots - 1, mask=mask, positions=positions)
    objective = LatentLookahead(model, STAR, slots, blocks, weight=0.7)
    torch.nn.init.normal_(objective.slot, std=0.5)
    return objective


def slow_slots(objective, tokens):
    """Return the refined states of the slots after a list of tokens, the last in their sequence."""
    model, count = objective.model, objective.slots
    length = len(tokens) + count

    def sees(t, s):
        if t < len(tokens):
            return s <= t or (model.mask == "prefix" and t < P and s < P)
        return True

    mask = torch.tensor([[sees(t, s) for s in range(length)] for t in range(length)])
    states = objective.slot.expand(count, -1)
    for _ in range(count + 1):
        inputs = torch.cat([model.embed(torch.tensor(tokens)), states])
        hidden = model(inputs[None], P, positions=torch.arange(length), attention_mask=mask)
        states = hidden[0, len(tokens) :]
    return states


def slow_losses(objective, batch):
    """Return the losses of the tokens and those of the slots, as lists."""
    model, plain, ahead = objective.model, [], []
    for prompt, answer in zip(batch.prompt.tolist(), batch.answer.tolist(), strict=True):
        for i, token in enumerate(answer):
            read = prompt + answer[:i]
            plain.append(-model.logits(model(torch.tensor([read]), P))[0, -1].log_softmax(0)[token])
            if objective.blocks is None or i < objective.blocks:
                for state, target in zip(slow_slots(objective, read), answer[i:], strict=False):
                    ahead.append(-model.logits(state).log_softmax(0)[target])
    return plain, ahead


@pytest.mark.parametrize(
    ("slots", "mask", "blocks", "positions"),
    [(3, "causal", None, "learned"), (2, "prefix", 2, "rotary"), (1, "causal", 9, "learned")],
)
def test_loss_and_all_its_gradients(slots, mask, blocks, positions):
    objective, batch = build(slots, mask, blocks, positions), rows(STAR, 2)
    plain, ahead = slow_losses(objective, batch)
    assert len(plain) == 2 * A
    assert len(ahead) == 2 * sum(min(slots, A - i) for i in range(min(A, blocks or A)))
    slow = sum(plain) / len(plain) + 0.7 * sum(ahead) / len(ahead)
    fast = objective.loss(batch)
    torch.testing.assert_close(fast, slow)
    parameters = list(objective.parameters())
    torch.testing.assert_close(torch.autograd.grad(fast, parameters), torch.autograd.grad(slow, parameters))


@pytest.mark.parametrize("blocks", [None, 2])
@torch.no_grad()
def test_decoding_reads_the_first_slot(blocks):
    """Token by token, from the refined slots; after the last block, from the state of the token before."""
    objective, batch = build(2, blocks=blocks), rows(STAR, 4)
    model, answers = objective.model, []
    for prompt in batch.prompt.tolist():
        answer = []
        for i in range(A):
            if blocks is None or i < blocks:
                state = slow_slots(objective, prompt + answer)[0]
            else:
                state = model(torch.tensor([prompt + answer]), P)[0, -1]
            answer.append(model.logits(state)[: STAR.dummy].argmax().item())
        answers.append(answer)
    assert objective.generate(batch.prompt, A).tolist() == answers
    assert len({tuple(answer) for answer in answers}) > 2
    forced = objective.answer_logits(Batch(batch.prompt, torch.tensor(answers)))
    assert forced[..., : STAR.dummy].argmax(2).tolist() == answers


@torch.no_grad()
def test_what_states_and_slots_see():
    """No bit of a state or a block depends on a later token; no bit of a state on any slot."""
    objective, batch = build(), rows(STAR, 1)
    read = batch.answer[:, :-1]
    states, slots = objective.states(batch.prompt, read)
    for j in range(A - 1):
        other = read.clone()
        other[0, j] = (other[0, j] + 1) % STAR.num_nodes
        changed_states, changed_slots = objective.states(batch.prompt, other)
        expected = [i > j for i in range(A)]
        assert (changed_states != states).any(2)[0].tolist() == expected
        assert (changed_slots != slots).any(3).any(2)[0].tolist() == expected
    objective.slot.add_(torch.randn(16))
    changed_states, changed_slots = objective.states(batch.prompt, read)
    assert torch.equal(changed_states, states)
    assert (changed_slots != slots).any(3).all()


@torch.no_grad()
def test_who_sees_whom_in_one_pass():
    """By perturbing every input in turn: slots reach their own block alone."""
    objective = build(slots=2)
    calls = []
    hook = objective.model.register_forward_pre_hook(
        lambda _, arguments, named: calls.append((arguments[0], named)), with_kwargs=True
    )
    objective.loss(rows(STAR, 1))
    hook.remove()
    assert len(calls) == 3
    inputs, named = calls[0]
    del named["last"]
    tokens = P + A - 1
    assert named["positions"][tokens:].tolist() == [P + i + j for i in range(A) for j in range(2)]

    def reaches(source, target):
        if source >= tokens:
            return target >= tokens and (source - tokens) // 2 == (target - tokens) // 2
        if target < tokens:
            return source <= target
        return source < P + (target - tokens) // 2

    plain = objective.model(inputs, P, **named)
    for source in range(inputs.shape[1]):
        changed = inputs.clone()
        changed[0, source] += torch.randn(16)  # not a constant, which norms take out
        reached = (objective.model(changed, P, **named) != plain).any(2)[0]
        assert reached.tolist() == [reaches(source, target) for target in range(inputs.shape[1])]


def test_positions_beyond_the_answer():
    """The last slot stands τ - 1 positions behind the answer's last token."""
    assert LatentLookahead.extra_positions(STAR, slots=4, weight=0.5) == 3
    with pytest.raises(IndexError):
        LatentLookahead(gpt_with_large_weights(STAR, extra=1), STAR, slots=3).loss(rows(STAR, 1))
