"""The looped GPT against a plain GPT with a copy of each block for each pass."""

import math

import pytest
import torch

from forethought.models import GPT, LoopedGPT

V, T, P = 11, 9, 5


def model(seed=0, loops=3, **changed):
    torch.manual_seed(seed)
    values = {"vocabulary_size": V, "context_length": T, "layers": 2, "width": 16, "heads": 4, **changed}
    looped = LoopedGPT(loops=loops, **values).double()
    for parameter in looped.parameters():  # away from the initial symmetry
        torch.nn.init.normal_(parameter, std=0.3)
    return looped


def tokens(rows=3):
    return torch.randint(V, (rows, T), generator=torch.Generator().manual_seed(1))


def unrolled(looped, **options):
    """A plain GPT whose blocks 0 … 5 are copies of blocks 0, 1, 0, 1, 0, 1."""
    gpt = GPT(vocabulary_size=V, context_length=T, layers=6, width=16, heads=4, **options).double()
    weights = {}
    for name, weight in looped.state_dict().items():
        room, _, rest = name.partition(".")
        if room != "blocks":
            weights[name] = weight
            continue
        index, _, inner = rest.partition(".")
        weights |= {f"blocks.{int(index) + 2 * loop}.{inner}": weight for loop in range(3)}
    gpt.load_state_dict(weights)
    return gpt


@pytest.mark.parametrize("positions", ["learned", "rotary"])
@pytest.mark.parametrize("mask", ["causal", "prefix", "full"])
@torch.no_grad()
def test_equals_the_unrolled_gpt(mask, positions):
    looped, batch = model(mask=mask, positions=positions), tokens()
    plain = unrolled(looped, mask=mask, positions=positions)
    torch.testing.assert_close(looped(batch, P), plain(batch, P))
    order = torch.randperm(T, generator=torch.Generator().manual_seed(3))
    options = {"positions": order, "attention_mask": looped.build_attention_mask(T, P)[order][:, order]}
    torch.testing.assert_close(looped(batch, P, **options), plain(batch, P, **options))


@pytest.mark.parametrize("mask", ["causal", "prefix"])
@torch.no_grad()
def test_every_pass_has_its_own_cache(mask):
    looped, batch = model(mask=mask), tokens()
    cache = looped.init_cache(3, T)
    assert len(cache.blocks) == 6
    parts = [looped(part, P, cache) for part in batch.split([P, 1, T - P - 1], 1)]
    torch.testing.assert_close(torch.cat(parts, 1), looped(batch, P))


def test_gradients_add_up_over_the_passes():
    looped, batch = model(), tokens()
    plain = unrolled(looped)
    looped(batch).sin().sum().backward()
    plain(batch).sin().sum().backward()
    for index, block in enumerate(looped.blocks):
        copies = [dict(plain.blocks[index + 2 * loop].named_parameters()) for loop in range(3)]
        for name, parameter in block.named_parameters():
            torch.testing.assert_close(parameter.grad, sum(copy[name].grad for copy in copies))


def test_myopic_stops_at_every_pass():
    looped = model()
    x = looped.embed(tokens(1)).detach().requires_grad_()
    hidden = looped(x, P, myopic=True)
    torch.testing.assert_close(hidden, looped(x, P))
    for i in range(T):
        (gradient,) = torch.autograd.grad(hidden[0, i].sum(), x, retain_graph=True)
        assert [j for j in range(T) if gradient[0, j].abs().max() > 0] == [i]


def test_initial_weights_are_scaled_by_the_serial_depth():
    torch.manual_seed(0)
    sizes = {"vocabulary_size": 50, "context_length": 20, "width": 128, "heads": 4}
    looped, plain = LoopedGPT(layers=2, loops=4, **sizes), GPT(layers=2, **sizes)
    assert {n: w.shape for n, w in looped.state_dict().items()} == {
        n: w.shape for n, w in plain.state_dict().items()
    }
    for part in (looped, looped.new_block()):
        for name, parameter in part.named_parameters():
            if name.endswith(("attention.output.weight", "mlp.output.weight")):
                assert parameter.std().item() == pytest.approx(0.02 / math.sqrt(2 * 8), rel=0.05)
