"""Sequential multi-token prediction against its formula written out in loops, in float64."""

import pytest
import torch
from helpers import STAR, gpt, negative_log, rows, with_random_weights

from forethought.objectives.sequential_multi_token import SequentialMultiToken

P, A = STAR.prompt_length, STAR.answer_length


def chain(mask="causal", horizon=3, **options):
    return with_random_weights(SequentialMultiToken(gpt(mask=mask), STAR, horizon, **options))


def scaled(vector, norm):
    return vector / (vector.pow(2).mean() + torch.finfo(vector.dtype).eps).sqrt() * norm.weight


def slow_states(objective, sequence, n, upto):
    """h^n_1 … h^n_upto of one row, from the tokens that these may read alone."""
    model = objective.model
    # Under the prefix mask a prompt position sees all of the prompt.
    upto = max(upto, P)
    if n == 1:
        return model(torch.tensor([sequence[:upto]]), P)[0]
    link, before = objective.chain[n - 2], slow_states(objective, sequence, n - 1, upto)
    merged = []
    for t in range(upto):
        token = model.embedding.weight[sequence[t + n - 1]]
        both = torch.cat([scaled(before[t], link.hidden_norm), scaled(token, link.token_norm)])
        merged.append(link.merge.weight @ both)
    return model(torch.stack(merged)[None], P, layers=[link.block])[0]


def slow_loss(objective, batch, horizon, weight):
    total = 0.0
    for prompt, answer in zip(batch.prompt.tolist(), batch.answer.tolist(), strict=True):
        sequence = prompt + answer
        for n in range(1, horizon + 1):
            for position in range(P, P + A - n + 1):  # from 1: the last prompt token is the P-th
                logits = objective.model.logits(slow_states(objective, sequence, n, position)[position - 1])
                nll = negative_log(logits, sequence[position + n - 1])
                total += nll * (1 if n == 1 else weight / (horizon - 1))
    return total / (len(batch) * A)


@pytest.mark.parametrize("mask", ["causal", "prefix"])
@pytest.mark.parametrize(("horizon", "weight"), [(1, 0.3), (2, 0.3), (4, 0.7)])
def test_loss(mask, horizon, weight):
    objective, batch = chain(mask=mask, horizon=horizon, chain_weight=weight), rows(count=2)
    expected = slow_loss(objective, batch, horizon, weight)
    assert objective.loss(batch).item() == pytest.approx(expected)


def test_prompt_positions_carry_no_loss():
    objective = chain(horizon=4)
    outputs = []

    def watched(*args, plain=objective.model.forward, last, **options):
        outputs.append(plain(*args, **options))
        return outputs[-1] if last is None else outputs[-1][:, -last:]

    objective.model.forward = watched
    # The last link's output alone: the others are read by the next link too.
    loss = objective.loss(rows())
    (gradient,) = torch.autograd.grad(loss, outputs[-1])
    assert (gradient.abs().amax((0, 2)) > 0).nonzero()[:, 0].tolist() == [P - 1]
