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
    memory = [(torch.zeros(8).double(), torch.zeros(8).double()) for _ in range(2)]
    outputs = []
    for token in row:
        x = lstm.embedding.weight[token]
        for layer, (h, c) in enumerate(memory):
            w = {name.removesuffix("_l0"): weight for name, weight in lstm.stack[layer].named_parameters()}
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
    layer, exact = lstm.new_layer(), lstm(tokens())
    rounded = exact.bfloat16()
    further = lstm(rounded.float(), layers=[layer])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(lstm(tokens()), exact)
        assert torch.equal(lstm(rounded, layers=[layer]), further)


def test_the_cache_does_not_grow():
    lstm = model()
    cache = lstm.init_cache(3, T)
    sizes = set()
    for part in tokens().split(1, 1):
        lstm(part, P, cache)
        sizes |= {tuple(part.shape for part in memory.state) for memory in cache.layers}
    assert sizes == {((1, 3, 8), (1, 3, 8))}


def test_initialisation():
    lstm = model(width=256)
    assert lstm.embedding.weight.std().item() == pytest.approx(0.1, rel=0.05)
    for name, parameter in lstm.stack.named_parameters():
        if "bias_ih" in name:
            assert (parameter[256:512] == 1).all()
            parameter = parameter.detach().clone()
            parameter[256:512] = 0
        assert parameter.abs().max() <= 1 / 16
