"""Multi-token prediction against its formula, and self-speculation against head 1 alone."""

import pytest
import torch
from helpers import STAR, by_heart, choices, chosen, gpt, learns, rows, with_random_weights

from forethought.models import OutputLayer
from forethought.models.layers import Context
from forethought.objectives.multi_token import MultiToken
from forethought.objectives.next_token import NextToken
from forethought.tasks import Addition, Draws

P, A = STAR.prompt_length, STAR.answer_length


def multi_token(mask="causal", **options):
    return with_random_weights(MultiToken(gpt(mask=mask), STAR, **options))


def head_logits(objective, read, position, head):
    """Logits of a head (from 1) at one position, from the tokens `read` alone."""
    net = objective.model
    hidden = net.embedding(torch.tensor([read])) + net.position.weight[: len(read)]
    own = objective.heads[head - 2] if head > 1 else None
    linear = isinstance(own, OutputLayer)
    context = Context(torch.arange(len(read)), net.build_attention_mask(len(read), P))
    for block in (*net.blocks[:-1], net.blocks[-1] if own is None or linear else own):
        hidden = block(hidden, context)
    return (own.weight @ hidden[0, position]) if linear else net.logits(net.norm(hidden))[0, position]


def slow_loss(objective, batch, scope, weight=1.0, reach=A):
    total = 0.0
    for prompt, answer in zip(batch.prompt.tolist(), batch.answer.tolist(), strict=True):
        sequence = prompt + answer
        for head in range(1, min(objective.horizon, reach) + 1):
            for target in range(P, P + A):
                position = target - head
                if scope == "answer" and position < P - 1:
                    continue
                # Under the prefix mask a prompt position reads the whole prompt, but no answer token.
                read = sequence[: max(position + 1, P)]
                logits = head_logits(objective, read, position, head)
                total -= (weight if head > 1 else 1.0) * logits.log_softmax(0)[sequence[target]]
    return total / (len(batch) * A)


def assert_equal_gradients(objective, fast, slow):
    """And equal values. A head that does not count yet has a gradient of zero."""
    torch.testing.assert_close(fast, slow)
    parameters = list(objective.parameters())
    expected = torch.autograd.grad(slow, parameters, allow_unused=True)
    for got, want in zip(torch.autograd.grad(fast, parameters), expected, strict=True):
        torch.testing.assert_close(got, torch.zeros_like(got) if want is None else want)


@pytest.mark.parametrize("mask", ["causal", "prefix"])
@pytest.mark.parametrize("scope", ["answer", "spill"])
@pytest.mark.parametrize(
    ("horizon", "heads", "weight"), [(1, "blocks", 1.0), (3, "blocks", 1.0), (3, "linear", 0.25)]
)
def test_loss(mask, scope, horizon, heads, weight):
    objective = multi_token(mask=mask, horizon=horizon, loss_scope=scope, heads=heads, weight=weight)
    fast, slow = objective.loss(rows(count=2)), slow_loss(objective, rows(count=2), scope, weight)
    assert_equal_gradients(objective, fast, slow)


@pytest.mark.parametrize("heads", ["blocks", "linear"])
def test_a_horizon_that_grows(heads):
    """Head i counts from step (i - 1) n / k on, here n = 10 and k = 4; outside a Trainer, all heads do."""
    objective = multi_token(horizon=4, heads=heads, grow_steps=10, weight=0.5)
    assert objective.reach == 4
    reached = []
    for objective.steps in range(12):
        reached.append(objective.reach)
    assert reached == [1, 1, 1, 2, 2, 3, 3, 3, 4, 4, 4, 4]
    for objective.steps in (0, 5):
        slow = slow_loss(objective, rows(count=1), "spill", 0.5, reached[objective.steps])
        assert_equal_gradients(objective, objective.loss(rows(count=1)), slow)


@pytest.mark.parametrize("model", [name for name in choices("model") if name != "pretrained"])
def test_one_head_is_next_token_prediction(model):
    """The trunk and the last block are the model."""
    target, options = chosen("model", model)
    model = target.for_task(STAR, **options).double()
    expected = NextToken(model, STAR).loss(rows()).item()
    assert MultiToken(model, STAR, horizon=1).loss(rows()).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("scope", ["answer", "spill"])
def test_where_each_head_has_a_loss(scope):
    """The gradient that reaches a head's output: before the last prompt token only with `spill`."""
    objective = multi_token(horizon=4, loss_scope=scope)
    outputs = []

    def watched(*args, plain=objective.model.forward, last, norm=True, **options):
        outputs.append(plain(*args, norm=norm, **options))
        outputs[-1].retain_grad()
        return outputs[-1] if last is None else outputs[-1][:, -last:]

    objective.model.forward = watched
    objective.loss(rows()).backward()
    for head, output in enumerate(outputs[1:], 1):
        learns = (output.grad.abs().amax((0, 2)) > 0).nonzero()[:, 0].tolist()
        first = P - 1 if scope == "answer" else P - head
        assert learns == list(range(first, P + A - head))


def slow_speculation(objective, prompt, length, prefix):
    """One row: lists, one head and one position at a time; also the calls and how many drafts came true."""
    answer, draft, calls, hits = list(prefix), [], 0, 0
    while len(answer) < length:
        calls += 1
        # One call reads answer and draft; asking it position by position is the same, as it is causal.
        while True:
            token = head_logits(objective, prompt + answer, -1, 1).argmax().item()
            if len(answer) < length:
                answer.append(token)
            if not draft or draft.pop(0) != token:
                break
            hits += 1
        read = prompt + answer[:-1]
        draft = [
            head_logits(objective, read, -1, head).argmax().item() for head in range(2, objective.horizon + 1)
        ]
    return answer, calls, hits


@pytest.mark.parametrize("heads", ["blocks", "linear"])
def test_drafts_of_what_was_learned_come_true(heads):
    """On rows known by heart; on others they are often wrong."""
    objective = MultiToken(gpt(width=32), STAR, horizon=4, heads=heads, speculate=True).double()
    batch = rows(count=8)

    def learned(objective, batch):
        # One call for the first token and three drafts, one to check them: 2 instead of A = 4.
        return (
            by_heart(objective, batch)
            and (objective.diagnostics(batch, objective.task)["model_calls"] == 2).all()
        )

    assert learns(objective, batch, 400, lr=1e-2, learned=learned)
    both = torch.cat([batch.prompt[:2], STAR.sample(5, Draws(5)).prompt])
    wrong = torch.randint(STAR.num_nodes, (7, 1), generator=torch.Generator().manual_seed(0))
    for prefix in (None, wrong):
        answer, calls = objective.self_speculate(both, A, prefix)
        assert torch.equal(answer, NextToken.generate(objective, both, A, prefix))
        hits = 0
        for row, prompt in enumerate(both.tolist()):
            start = [] if prefix is None else prefix[row].tolist()
            slow, slow_calls, slow_hits = slow_speculation(objective, prompt, A, start)
            assert (answer[row].tolist(), calls[row].item()) == (slow, slow_calls)
            hits += slow_hits
        assert hits > 0
        assert len(calls.unique()) > 1  # rows at different speeds


@pytest.mark.parametrize("mask", ["causal", "prefix"])
def test_speculation_of_any_length_and_horizon(mask):
    """Also answers longer or shorter than a whole number of drafts, and tasks other than a star."""
    task = Addition(digits=4)
    model = gpt(task, layers=1, positions="rotary", mask=mask)
    prompt = task.sample(6, Draws(0)).prompt
    for horizon, heads in ((1, "blocks"), (2, "blocks"), (5, "linear")):
        objective = MultiToken(model, task, horizon=horizon, heads=heads, speculate=True).double()
        for length in (1, 2, 5, 9):
            answer, calls = objective.self_speculate(prompt, length)
            assert answer.shape == (6, length)
            assert torch.equal(answer, NextToken.generate(objective, prompt, length))
            assert torch.equal(answer, objective.generate(prompt, length))
            assert (1 + -(-(length - 1) // horizon) <= calls).all()
            assert (calls <= length).all()


def test_sampling_is_left_to_head_1():
    objective = multi_token(horizon=3, speculate=True)
    torch.manual_seed(1)
    drawn = objective.generate(rows().prompt, A, temperature=2.0)
    torch.manual_seed(1)
    assert torch.equal(drawn, NextToken.generate(objective, rows().prompt, A, temperature=2.0))


def test_calls_are_reported_only_where_they_are_saved():
    assert multi_token(horizon=3).diagnostics(rows(), STAR) == {}
