"""The Belief State Transformer against its formula written out pair by pair, in float64."""

import math

import pytest
import torch
import torch.nn.functional as F
from helpers import STAR, gpt, negative_log, random_gpt, rows, slow_norm, with_random_weights

from forethought.objectives.belief_state import BeliefState
from forethought.tasks import Addition, PathStar


def build(task=STAR, **changed):
    return with_random_weights(BeliefState(gpt(task, **changed), task).double())


def slow_head(head, prefix, suffix):
    """Two vectors of D numbers in, two out."""
    x = torch.cat([prefix, suffix])
    gate, plain = head.gate.weight @ x, head.input.weight @ x
    x = x + head.output.weight @ torch.stack(
        [g / (1 + math.exp(-g)) * p for g, p in zip(gate, plain, strict=True)]
    )
    x = slow_norm(x, head.norm)
    return x[: len(prefix)], x[len(prefix) :]


@torch.no_grad()
def slow_loss(objective, batch):
    task, weights = objective.task, objective.model.embedding.weight
    start, total = task.prompt_length, []
    for prompt, answer in zip(batch.prompt.tolist(), batch.answer.tolist(), strict=True):
        z = [*prompt, *answer, task.dummy]
        for t in range(start, len(z)):  # z[:t] is the prefix
            for s in range(t + 1, len(z)):  # z[s:] the suffix, with at least one token between
                prefix = objective.model(torch.tensor([z[:t]]), start)[0, -1]
                suffix = objective.backward_encoder(torch.tensor([z[s:][::-1]]))[0, -1]
                after, before = slow_head(objective.head, prefix, suffix)
                total.append(negative_log(weights @ after, z[t]))
                total.append(negative_log(weights @ before, z[s - 1]))
    return sum(total) / len(total)


@pytest.mark.parametrize(
    ("task", "mask", "positions"),
    [
        (STAR, "causal", "learned"),
        (STAR, "prefix", "rotary"),
        (Addition(digits=2), "prefix", "learned"),
    ],
)
def test_loss(task, mask, positions):
    objective = build(task, mask=mask, positions=positions)
    batch = rows(task, 2)
    assert objective.loss(batch).item() == pytest.approx(slow_loss(objective, batch))


def plain_loss(objective, batch):
    """All pairs at once, nothing computed twice."""
    prefixes, suffixes = objective.encode(batch)
    length = batch.answer.shape[1]
    i, j = torch.tensor([(i, j) for i in range(length) for j in range(length - i)]).T
    after, before = objective.head(prefixes[:, i], suffixes[:, j])
    pairs = ((after, batch.answer[:, i]), (before, batch.answer[:, length - 1 - j]))
    return sum(
        F.cross_entropy(objective.model.logits(state).flatten(0, 1), target.flatten())
        for state, target in pairs
    ) / len(pairs)


def test_gradient_is_that_of_all_pairs_at_once():
    objective = build()
    names, parameters = zip(*objective.named_parameters(), strict=True)
    fast = torch.autograd.grad(objective.loss(rows()), parameters)
    plain = torch.autograd.grad(plain_loss(objective, rows()), parameters)
    for name, one, two in zip(names, fast, plain, strict=True):
        torch.testing.assert_close(one, two, msg=name)
        assert one.abs().max() > 0, name


def saved_bytes(objective, loss, length):
    """Return the bytes saved for backward, the encoders' own excepted."""
    task = PathStar(degree=1, path_length=length, num_nodes=40)
    objective.task, batch = task, rows(task, 2)
    states = tuple(torch.randn(2, length, 16, dtype=torch.float64, requires_grad=True) for _ in range(2))
    objective.encode = lambda _: states
    storages = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage  # A reference, so that no other storage takes its address.
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = loss(objective, batch)
    assert result.requires_grad
    return sum(storage.nbytes() for storage in storages.values())


def test_memory_is_linear_in_the_states():
    """From 8 to 32 answer tokens: four times the states, sixteen times the pairs."""
    task = PathStar(degree=1, path_length=32, num_nodes=40)
    objective = build(task)
    growth = [saved_bytes(objective, BeliefState.loss, n) for n in (8, 16, 32)]
    assert growth[2] - growth[1] <= 2.1 * (growth[1] - growth[0])
    control = [saved_bytes(objective, plain_loss, n) for n in (8, 16, 32)]
    assert control[2] - control[1] > 3 * (control[1] - control[0])
    assert growth[2] < control[2] / 10


def test_backward_encoder_shares_the_token_embedding_and_nothing_else():
    model = random_gpt(width=64)
    objective = BeliefState(model, STAR)
    own = dict(objective.backward_encoder.named_parameters())
    for name, parameter in model.named_parameters():
        assert (own[name] is parameter) == (name == "embedding.weight")
        if name != "embedding.weight":
            assert not torch.equal(own[name], parameter)
    assert own["blocks.0.mlp.input.weight"].std().item() == pytest.approx(0.02, rel=0.1)
    assert own["blocks.0.mlp.output.weight"].std().item() == pytest.approx(0.01, rel=0.1)
    assert (own["norm.weight"] == 1).all()
    assert (own["blocks.1.attention.input.bias"] == 0).all()
    after = list(objective.parameters())
    assert len(after) == len(set(map(id, after)))
    objective.load_state_dict(objective.state_dict())
    assert objective.backward_encoder.embedding is model.embedding


def test_the_head_reads_nothing_of_the_gap():
    """A prefix state changes with the answer tokens in it, a suffix state with those in it: no others."""
    objective, batch, length = build(), rows(count=1), STAR.answer_length
    states = objective.encode(batch)
    for i in range(length):
        answer = batch.answer.clone()
        answer[0, i] = (answer[0, i] + 1) % STAR.num_nodes
        other = objective.encode(type(batch)(batch.prompt, answer))
        before, after = ((a - b).abs().amax(2)[0] > 0 for a, b in zip(states, other, strict=True))
        assert before.tolist() == [i < n for n in range(length)]
        assert after.tolist() == [i >= length - n for n in range(length)]


def test_prompt_tokens_carry_no_loss_and_are_in_no_suffix():
    objective, batch = build(), rows(count=1)
    seen = []
    objective.model.logits = lambda x, plain=objective.model.logits: (seen.append(x.shape), plain(x))[1]
    objective.backward_encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].tolist()))
    objective.loss(batch)
    assert seen[0] == [[STAR.dummy, *batch.answer[0].tolist()[:0:-1]]]
    assert [shape[:3] for shape in seen[1:]] == [(2, 1, 4), (2, 1, 3), (2, 1, 2), (2, 1, 1)]


@pytest.mark.parametrize("mask", ["causal", "prefix"])
@torch.no_grad()
def test_answer_logits_have_an_empty_suffix_and_the_true_prefix(mask):
    objective, batch = build(mask=mask), rows(count=2)
    logits = objective.answer_logits(batch)
    end = objective.backward_encoder(torch.tensor([[STAR.dummy]]))[0, 0]
    for row, (prompt, answer) in enumerate(zip(batch.prompt.tolist(), batch.answer.tolist(), strict=True)):
        for i in range(len(answer)):
            prefix = objective.model(torch.tensor([prompt + answer[:i]]), STAR.prompt_length)[0, -1]
            after, _ = slow_head(objective.head, prefix, end)
            torch.testing.assert_close(logits[row, i], objective.model.embedding.weight @ after)
