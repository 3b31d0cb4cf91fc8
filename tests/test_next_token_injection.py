"""Next-token injection against its formula written out in loops, in float64."""

import pytest
import torch
from helpers import STAR, gpt, rows, with_random_weights

from forethought.objectives.next_token_injection import NextTokenInjection

P, A = STAR.prompt_length, STAR.answer_length


def build(mask="causal", **options):
    return with_random_weights(NextTokenInjection(gpt(mask=mask), STAR, **options))


def slow_logits(objective, sequence, n, position):
    """Logits of s_{t+n} at t = `position` (from 1), from the tokens that head n may read alone."""
    model = objective.model
    hidden = model(torch.tensor([sequence[:position]]), P)[0]
    if n == 1:
        return model.logits(hidden[-1])
    transfer = objective.transfers[n - 2]
    injected = []
    for t in range(position):
        injected.append(hidden[t] + objective.injection * model.embedding.weight[sequence[t + 1]])
    if isinstance(transfer, torch.nn.Linear):
        return model.logits(transfer.weight @ injected[-1])
    return model.logits(model(torch.stack(injected)[None], P, layers=[*transfer])[0, -1])


def slow_loss(objective, batch, horizon):
    total = 0.0
    for prompt, answer in zip(batch.prompt.tolist(), batch.answer.tolist(), strict=True):
        sequence = prompt + answer
        for n in range(1, horizon + 1):
            for position in range(P, P + A - n + 1):
                logits = slow_logits(objective, sequence, n, position)
                total -= logits.log_softmax(0)[sequence[position + n - 1]]
    return total / (len(batch) * A)


@pytest.mark.parametrize("mask", ["causal", "prefix"])
@pytest.mark.parametrize(("horizon", "layers"), [(2, 1), (3, 0), (3, 2)])
def test_loss_and_all_its_gradients(mask, horizon, layers):
    objective, batch = build(mask, horizon=horizon, layers=layers), rows(count=2)
    parameters = list(objective.parameters())
    fast, slow = objective.loss(batch), slow_loss(objective, batch, horizon)
    torch.testing.assert_close(fast, slow)
    expected = torch.autograd.grad(slow, parameters)
    for got, want in zip(torch.autograd.grad(fast, parameters), expected, strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("layers", [0, 1])
def test_a_head_is_told_the_next_token_and_no_later_one(layers):
    """Gradient of the logits of y_3 by head 2, at y_1: the injected y_2 is read, y_3 is not."""
    objective, batch = build(layers=layers), rows(count=1)
    embedded, plain = [], objective.model.embed

    def watched(tokens):
        embedded.append(plain(tokens))
        embedded[-1].retain_grad()
        return embedded[-1]

    objective.model.embed = watched
    seen, logits = [], objective.model.logits
    objective.model.logits = lambda hidden: (seen.append(logits(hidden)), seen[-1])[1]
    objective.loss(batch)
    seen[1][:, 1].sum().backward()
    # Column c of the injected embeddings is that of token c + 2; those of the model's input are token c + 1.
    injected = (embedded[1].grad.abs().sum((0, 2)) > 0).nonzero()[:, 0] + 2
    read = (embedded[0].grad.abs().sum((0, 2)) > 0).nonzero()[:, 0] + 1
    assert read.tolist() == [*range(1, P + 2)]
    assert injected.tolist() == ([P + 2] if layers == 0 else [*range(2, P + 3)])
