"""Short causal convolutions, in every model."""

import contract
import pytest
import torch
from test_models import MODELS, P, T, V, model

from forethought.models.layers import Context
from forethought.models.short_conv import ShortConv
from forethought.objectives import AnyOrder, Myopic, RegisterTokens

places = pytest.mark.parametrize(
    ("name", "conv"),
    [(name, conv) for name in MODELS for conv in ("input", "blocks")],
)


def random_conv(width=3):
    return ShortConv(width).double()


def test_against_a_loop():
    conv, x = random_conv(), torch.randn(2, 6, 3).double()
    expected = x.clone()
    for t in range(6):
        for j in range(min(t, 3) + 1):
            expected[:, t] += conv.weight[:, 0, 3 - j] * x[:, t - j]
    for by_position in (False, True):
        context = Context(torch.arange(6), by_position=by_position)
        torch.testing.assert_close(conv(x, context), expected)


def test_neighbours_by_position_are_those_that_a_token_sees():
    conv, x = random_conv(), torch.randn(1, 5, 3).double()
    # A register at position 2 is appended; it reads the tokens up to position 1, and no token reads it.
    positions, mask = torch.tensor([0, 1, 2, 3, 2]), torch.ones(5, 5, dtype=torch.bool).tril()
    mask[4, 2:4] = False
    mixed = conv(x, Context(positions, mask, by_position=True))
    in_order = Context(torch.arange(5))
    torch.testing.assert_close(mixed[:, :4], conv(x[:, :4], in_order))
    torch.testing.assert_close(mixed[:, 4:], conv(x[:, [0, 1, 4]], in_order)[:, 2:])


@places
def test_contract(name, conv):
    tokens = torch.randint(V, (3, T), generator=torch.Generator().manual_seed(1))
    contract.check_causal(model(name, conv=conv), T)
    contract.check_cache(model(name, conv=conv), tokens, P)
    contract.check_embeddings_and_state_dict(model(name, conv=conv), model(name, seed=1, conv=conv), tokens)
    contract.check_bfloat16(model(name, conv=conv).float(), tokens)
    plain, net = model(name), model(name, conv=conv)
    net.load_state_dict(plain.state_dict(), strict=False)
    assert not torch.allclose(net(tokens), plain(tokens))


@places
def test_weights_are_drawn_anew(name, conv):
    kind, options = MODELS[name]
    sizes = {"vocabulary_size": V, "context_length": T, "layers": 2, "width": 256}
    net = kind(**sizes | options, conv=conv)
    assert len(net.convs) == (1 if conv == "input" else 2)
    twin = net.twin()
    assert not torch.equal(net.convs[0].weight, twin.convs[0].weight)
    for conv in (*net.convs, *twin.convs):
        assert conv.weight.std().item() == pytest.approx(0.3, rel=0.1)


@pytest.mark.parametrize("name", ["gpt", "looped_gpt"])
@pytest.mark.parametrize("conv", ["input", "blocks"])
def test_gradients_of_a_myopic_model_stay_at_their_position(name, conv):
    contract.check_myopic(model(name, conv=conv), torch.randint(V, (1, T)), P)


@pytest.mark.parametrize("objective", [*contract.OBJECTIVES, AnyOrder, Myopic, RegisterTokens])
def test_objectives(objective):
    sizes = {"vocabulary_size": len(contract.TASK.vocabulary), "context_length": contract.CONTEXT}
    contract.check_objective(lambda: model("gpt", conv="blocks", **sizes).float(), objective)
