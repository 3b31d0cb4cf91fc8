"""Infini-attention against its recurrence written out in loops; its cache and its errors."""

import math

import pytest
import torch
from helpers import slow_norm, slow_rotary

from forethought.errors import Impossible
from forethought.models import GPT, InfiniGPT

V, T, P, S = 11, 11, 6, 4


def model(seed=0, **changed):
    torch.manual_seed(seed)
    values = {"layers": 2, "width": 16, "heads": 2, "segment_length": S, **changed}
    infini = InfiniGPT(**{"vocabulary_size": V, "context_length": T, **values}).double()
    for parameter in infini.parameters():  # away from the initial symmetry, gates too
        torch.nn.init.normal_(parameter, std=0.5)
    return infini


def tokens(rows=3):
    return torch.randint(V, (rows, T), generator=torch.Generator().manual_seed(1))


def sigma(vector):
    return torch.tensor([x + 1 if x > 0 else math.exp(x) for x in vector.tolist()]).double()


def slow_head(q, k, v, beta, update):
    """One head over one sequence: lists of vectors in, a list of vectors out."""
    size = len(q[0])
    matrix, norm = torch.zeros(size, size).double(), torch.zeros(size).double()

    def recall(vector):
        found = sigma(vector)
        return found @ matrix / (found @ norm) if norm.any() else torch.zeros(size).double()

    out = []
    for first in range(0, len(q), S):
        segment = range(first, min(first + S, len(q)))
        for i in segment:
            seen = range(first, i + 1)
            scores = [
                slow_rotary(q[i], i - first) @ slow_rotary(k[j], j - first) / math.sqrt(size) for j in seen
            ]
            local = sum(w * v[j] for w, j in zip(torch.stack(scores).softmax(0), seen, strict=True))
            gate = 1 / (1 + math.exp(-beta))
            out.append(gate * recall(q[i]) + (1 - gate) * local)
        stored = [v[j] - recall(k[j]) if update == "delta" else v[j] for j in segment]
        for j, value in zip(segment, stored, strict=True):
            matrix += sigma(k[j])[:, None] * value
            norm += sigma(k[j])
    return out


def slow_forward(infini, row):
    x = [infini.embedding.weight[token] for token in row]
    for block in infini.blocks:
        attention = block.attention
        qkv = torch.stack([attention.input(slow_norm(h, block.attention_norm)).view(3, 2, 8) for h in x])
        heads = [
            slow_head(*qkv[:, :, h].unbind(1), attention.gate[h].item(), infini.update) for h in range(2)
        ]
        x = [h + attention.output(torch.cat(parts)) for h, *parts in zip(x, *heads, strict=True)]
        x = [h + block.mlp(slow_norm(h, block.mlp_norm)[None, None])[0, 0] for h in x]
    return torch.stack([slow_norm(h, infini.norm) for h in x])


@pytest.mark.parametrize("update", ["linear", "delta"])
@torch.no_grad()
def test_forward_against_the_recurrence(update):
    infini, batch = model(update=update), tokens()
    for row, hidden in zip(batch, infini(batch), strict=True):
        torch.testing.assert_close(hidden, slow_forward(infini, row), rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_equals_a_gpt_within_one_segment_and_with_a_closed_gate():
    infini = model(segment_length=T)
    for block in infini.blocks:
        block.attention.gate.fill_(-1e9)
    gpt = GPT(V, T, layers=2, width=16, heads=2, positions="rotary").double()
    gpt.load_state_dict({name: w for name, w in infini.state_dict().items() if not name.endswith("gate")})
    torch.testing.assert_close(infini(tokens()), gpt(tokens()))


def test_the_delta_rule_stores_a_segment_once():
    """A repeated segment of one token changes M only under the linear rule, which doubles M."""
    for update, factor in (("linear", 2), ("delta", 1)):
        memory = model(heads=2).init_cache(1, 0).layers[0]
        memory.keys, memory.values = torch.randn(2, 1, 2, 1, 8, dtype=torch.float64)
        segment = memory.keys, memory.values
        memory.absorb(update)
        once = memory.matrix
        memory.keys, memory.values = segment
        memory.absorb(update)
        torch.testing.assert_close(memory.matrix, factor * once)


def test_the_cache_holds_at_most_one_segment():
    infini = model()
    cache, kept = infini.init_cache(3, T), []
    for part in tokens().split(1, 1):
        infini(part, P, cache)
        kept.append([memory.keys.shape[2] for memory in cache.layers])
    assert kept == [[n % S] * 2 for n in range(1, T + 1)]
    assert cache.layers[0].matrix.shape == (3, 2, 8, 8)


def test_heads_must_have_an_even_width():
    with pytest.raises(Impossible, match=r"model\.width=18: .*model\.heads=2; .*multiple of 4"):
        model(width=18)
