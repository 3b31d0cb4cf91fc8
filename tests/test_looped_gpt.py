"""The looped GPT against a plain GPT with a copy of each block for each pass."""

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


def test_gradients_add_up_over_the_passes():
    looped, batch = model(), tokens()
    plain = unrolled(looped)
    looped(batch).sin().sum().backward()
    plain(batch).sin().sum().backward()
    for index, block in enumerate(looped.blocks):
        copies = [dict(plain.blocks[index + 2 * loop].named_parameters()) for loop in range(3)]
        for name, parameter in block.named_parameters():
            torch.testing.assert_close(parameter.grad, sum(copy[name].grad for copy in copies))
