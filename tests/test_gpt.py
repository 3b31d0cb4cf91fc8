"""The GPT against an attention written out in loops; its masks, cache and initialisation."""

import math

import pytest
import torch
import torch.nn.functional as F
from helpers import slow_norm, slow_rotary
from torch.utils.flop_counter import FlopCounterMode

from forethought.errors import Impossible, InputError
from forethought.models import GPT
from forethought.models.gpt import attention, rotary, rotate
from forethought.objectives.myopic import detach_past

V, T, P = 11, 9, 5


def model(**changed):
    torch.manual_seed(0)
    values = {"layers": 2, "width": 16, "heads": 4, **changed}
    gpt = GPT(vocabulary_size=V, context_length=T, **values).double()
    for parameter in gpt.parameters():  # away from the initial symmetry
        torch.nn.init.normal_(parameter, std=0.3)
    return gpt


def tokens(rows=3, length=T):
    return torch.randint(V, (rows, length), generator=torch.Generator().manual_seed(1))


def slow_forward(gpt, row):
    """One sequence, position by position, from the paper's formulas."""
    x = [gpt.embedding.weight[t] + (gpt.position.weight[i] if gpt.position else 0) for i, t in enumerate(row)]
    for block in gpt.blocks:
        a = block.attention
        width = len(x[0]) // a.heads
        qkv = [a.input(slow_norm(v, block.attention_norm)).view(3, a.heads, width) for v in x]
        if gpt.position is None:
            for i, part in enumerate(qkv):
                for vector in (*part[0], *part[1]):  # of every head
                    vector.copy_(slow_rotary(vector, i))
        out = []
        for i in range(len(x)):
            heads = []
            for h in range(a.heads):
                seen = [
                    j
                    for j in range(len(x))
                    if gpt.mask == "full" or j <= i or (gpt.mask == "prefix" and j < P)
                ]
                scores = torch.stack([qkv[i][0][h] @ qkv[j][1][h] / math.sqrt(width) for j in seen])
                heads.append(sum(w * qkv[j][2][h] for w, j in zip(scores.softmax(0), seen, strict=True)))
            out.append(x[i] + a.output(torch.cat(heads)))
        x = [v + block.mlp(slow_norm(v, block.mlp_norm)[None, None])[0, 0] for v in out]
    return torch.stack([slow_norm(v, gpt.norm) for v in x])


@pytest.mark.parametrize("positions", ["learned", "rotary"])
@pytest.mark.parametrize("mask", ["causal", "prefix", "full"])
@torch.no_grad()
def test_forward_against_loops(mask, positions):
    gpt = model(mask=mask, positions=positions)
    batch = tokens()
    fast = gpt(batch, P)
    for row, hidden in zip(batch, fast, strict=True):
        torch.testing.assert_close(hidden, slow_forward(gpt, row))


@pytest.mark.parametrize("mask", ["causal", "prefix", "full"])
def test_visible_positions(mask):
    """The gradient of each position's output reaches exactly the inputs that the mask shows."""
    gpt = model(mask=mask)
    x = gpt.embedding(tokens(1)).detach().requires_grad_()
    hidden = gpt(x, P)
    for i in range(T):
        (gradient,) = torch.autograd.grad(hidden[0, i].sum(), x, retain_graph=True)
        sees = [j for j in range(T) if gradient[0, j].abs().max() > 0]
        expected = [j for j in range(T) if mask == "full" or j <= i or (mask == "prefix" and j < P)]
        assert sees == expected


def test_output_shares_the_embedding():
    gpt = model()
    hidden = torch.randn(2, 16, dtype=torch.float64)
    torch.testing.assert_close(gpt.logits(hidden), hidden @ gpt.embedding.weight.T)


def test_rotary_scores_depend_on_distance_alone():
    q, k = torch.randn(2, 1, 1, 1, 8, dtype=torch.float64)
    turned = rotary(torch.arange(20), 8).double()

    def score(i, j):
        one, two = turned[:, :, :, i : i + 1], turned[:, :, :, j : j + 1]
        return (rotate(q, one) * rotate(k, two)).sum()

    torch.testing.assert_close(score(3, 1), score(12, 10), rtol=1e-5, atol=1e-6)
    assert not torch.isclose(score(3, 1), score(3, 2))


@pytest.mark.parametrize("positions", ["learned", "rotary"])
@torch.no_grad()
def test_own_positions_and_attention_mask(positions):
    """Permuted tokens, with positions and mask permuted alike, give the permuted hidden states."""
    gpt = model(positions=positions)
    batch, order = tokens(), torch.randperm(T, generator=torch.Generator().manual_seed(3))
    mask = gpt.build_attention_mask(T, P)[order][:, order]
    moved = gpt(batch[:, order], positions=order, attention_mask=mask)
    torch.testing.assert_close(moved, gpt(batch)[:, order])
    rows = order.expand(3, T)
    torch.testing.assert_close(
        gpt(batch[:, order], positions=rows, attention_mask=mask.expand(3, T, T)), moved
    )


@pytest.mark.parametrize("positions", ["learned", "rotary"])
@pytest.mark.parametrize("mask", ["causal", "prefix", "full"])
@pytest.mark.parametrize("last", [1, 3, T])
def test_last(mask, positions, last):
    """Hidden states and gradients equal those of a pass over all positions, also with a cache."""
    gpt, x = model(mask=mask, positions=positions), tokens()
    whole, part = gpt(x, P), gpt(x, P, last=last)
    torch.testing.assert_close(part, whole[:, -last:])
    weight = torch.randn_like(part)
    parameters = list(gpt.parameters())
    torch.testing.assert_close(
        torch.autograd.grad((part * weight).sum(), parameters),
        torch.autograd.grad((whole[:, -last:] * weight).sum(), parameters),
    )
    if mask != "full":
        cache = gpt.init_cache(len(x), T)
        parts = [gpt(piece, P, cache, last=1) for piece in (x[:, :P], x[:, P:-1], x[:, -1:])]
        torch.testing.assert_close(torch.cat(parts, 1), whole[:, [P - 1, T - 2, T - 1]])


@pytest.mark.parametrize("myopic", [False, True])
def test_last_with_a_given_mask(myopic):
    gpt, x = model(), tokens()
    mask = torch.rand(len(x), T, T).lt(0.5) | torch.eye(T, dtype=torch.bool)
    options = {"attention_mask": mask, "positions": torch.randperm(T)}
    if myopic:
        detach_past(gpt)
    torch.testing.assert_close(gpt(x, P, **options, last=4), gpt(x, P, **options)[:, -4:])


@pytest.mark.parametrize("masked", [False, True])
def test_bf16_attention_on_a_cpu(masked):
    """The attention written out for bf16 equals the fused kernel, in values and gradients."""
    mask = torch.rand(3, 1, T, T).lt(0.5) | torch.eye(T, dtype=torch.bool) if masked else None
    q, k, v = (torch.randn(3, 2, T, 4, dtype=torch.bfloat16, requires_grad=True) for _ in range(3))
    fused = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
    written = attention(q, k, v, mask)
    torch.testing.assert_close(written, fused, atol=0.03, rtol=0.03)
    weight = torch.randn_like(fused)
    torch.testing.assert_close(
        torch.autograd.grad((written * weight).sum(), (q, k, v)),
        torch.autograd.grad((fused * weight).sum(), (q, k, v)),
        atol=0.1,
        rtol=0.1,
    )


def test_last_saves_the_work_of_the_last_block():
    gpt, x = model(layers=1).float(), tokens()
    with FlopCounterMode(display=False) as whole:
        gpt(x)
    with FlopCounterMode(display=False) as part:
        gpt(x, last=2)
    rows, width = 3, 16
    saved = T - 2  # positions without a query, an output and the MLP: 1 + 1 + 8 products of D × D
    assert whole.get_total_flops() - part.get_total_flops() >= 2 * rows * saved * 10 * width**2


def test_errors():
    with pytest.raises(Impossible, match=r"model\.width=10: .*multiple of 4"):
        model(width=10)
    with pytest.raises(Impossible, match=r"model\.width=12: .*rotary; .*multiple of 8"):
        model(width=12, positions="rotary")
    with pytest.raises(InputError, match=r"model\.positions=learned: .* 10 tokens .*rotary"):
        model()(tokens(length=T + 1))
    assert model(positions="rotary")(tokens(length=T + 1)).shape == (3, T + 1, 16)
