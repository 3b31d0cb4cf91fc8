"""The LSTM against its equations written out; its cache and its errors."""

import pytest
import torch

from forethought.models import LSTM

V, T, P = 11, 9, 5


def model(seed=0, **changed):
    torch.manual_seed(seed)
    return LSTM(**{"vocabulary_size": V, "context_length": T, "layers": 2, "width": 8, **changed}).double()


def tokens(rows=3):
    return torch.randint(V, (rows, T), generator=torch.Generator().manual_seed(1))


def slow_forward(lstm, row):
    """One sequence, token by token and layer by layer."""
    weights = dict(lstm.lstm.named_parameters())
    memory = [(torch.zeros(8).double(), torch.zeros(8).double()) for _ in range(2)]
    outputs = []
    for token in row:
        x = lstm.embedding.weight[token]
        for layer, (h, c) in enumerate(memory):
            w = {
                name: weights[f"{name}_l{layer}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            }
            gates = w["weight_ih"] @ x + w["bias_ih"] + w["weight_hh"] @ h + w["bias_hh"]
            i, f, g, o = gates[0:8], gates[8:16], gates[16:24], gates[24:32]
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            x = o.sigmoid() * c.tanh()
            memory[layer] = (x, c)
        outputs.append(x)
    return torch.stack(outputs)


@torch.no_grad()
def test_forward_against_the_equations():
    lstm, batch = model(), tokens()
    for row, hidden in zip(batch, lstm(batch), strict=True):
        torch.testing.assert_close(hidden, slow_forward(lstm, row))


@torch.no_grad()
def test_the_recurrence_is_fp32_under_autocast():
    """oneDNN has no bf16 LSTM on a CPU without AVX-512; further layers may get bf16 inputs."""
    lstm = model().float()
    block, exact = lstm.new_block(), lstm(tokens())
    rounded = exact.bfloat16()
    further = block(rounded.float())[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(lstm(tokens()), exact)
        assert torch.equal(lstm.run_block(block, rounded), further)


def test_the_cache_does_not_grow():
    lstm = model()
    cache = lstm.init_cache(3, T)
    sizes = set()
    for part in tokens().split(1, 1):
        lstm(part, P, cache)
        sizes.add(tuple(part.shape for part in cache.memory))
    assert sizes == {((2, 3, 8), (2, 3, 8))}


@torch.no_grad()
def test_a_further_block_is_one_more_layer():
    lstm, deeper = model(), model(layers=3)
    block = lstm.new_block().double()
    added = {name.replace("_l0", "_l2"): weight for name, weight in block.state_dict().items()}
    deeper.load_state_dict(lstm.state_dict() | {f"lstm.{name}": weight for name, weight in added.items()})
    torch.testing.assert_close(lstm.run_block(block, lstm(tokens())), deeper(tokens()))


def test_initialisation():
    lstm = model(width=256)
    assert lstm.embedding.weight.std().item() == pytest.approx(0.1, rel=0.05)
    for name, parameter in lstm.lstm.named_parameters():
        if "bias_ih" in name:
            assert (parameter[256:512] == 1).all()
            parameter = parameter.detach().clone()
            parameter[256:512] = 0
        assert parameter.abs().max() <= 1 / 16
