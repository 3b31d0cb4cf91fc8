"""Mamba-2 against its recurrence written out in loops; its initial values."""

import pytest
import torch
import torch.nn.functional as F

from forethought.errors import Impossible
from forethought.models import Mamba2
from forethought.models.mamba2 import ssd

V, T = 11, 9


def model(**changed):
    torch.manual_seed(0)
    values = {"layers": 2, "width": 16, "state_size": 5, "head_width": 8, "chunk": 4, **changed}
    net = Mamba2(V, T, **values).double()
    for parameter in net.parameters():  # away from the initial symmetry
        torch.nn.init.normal_(parameter, std=0.3)
    return net


def slow_forward(net, row):
    """One sequence, token by token and head by head (2405.21060, §2 and §7.1)."""
    norm = lambda x, m: x / (x.pow(2).mean() + 1e-5).sqrt() * m.weight  # noqa: E731
    silu = lambda x: x * torch.sigmoid(x)  # noqa: E731
    x = [net.backbone.embedding.weight[token] for token in row]
    for block in net.backbone.layers:
        m = block.mixer
        inner, heads, states = (
            m.out_proj.in_features,
            len(m.D),
            (m.conv1d.in_channels - len(m.norm.weight)) // 2,
        )
        head, width = inner // heads, m.conv1d.kernel_size[0]
        sizes = [inner, inner + 2 * states, heads]
        parts = [(m.in_proj.weight @ norm(v, block.norm)).split(sizes) for v in x]
        h = [torch.zeros(head, states).double() for _ in range(heads)]
        out = []
        for t, residual in enumerate(x):
            mixed = m.conv1d.bias + sum(
                m.conv1d.weight[:, 0, width - 1 - k] * parts[t - k][1] for k in range(min(t + 1, width))
            )
            u, write, read = silu(mixed).split([inner, states, states])
            step = torch.log1p(torch.exp(parts[t][2] + m.dt_bias))
            y = []
            for i in range(heads):
                own = u[i * head : (i + 1) * head]
                h[i] = torch.exp(-torch.exp(m.A_log[i]) * step[i]) * h[i] + step[i] * torch.outer(own, write)
                y.append(h[i] @ read + m.D[i] * own)
            out.append(residual + m.out_proj.weight @ norm(torch.cat(y) * silu(parts[t][0]), m.norm))
        x = out
    return torch.stack([norm(v, net.backbone.norm_f) for v in x])


@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_outputs_and_gradients_against_loops(chunk):
    net = model(chunk=chunk)
    batch = torch.randint(V, (2, T))
    weight = torch.randn(2, T, 16, dtype=torch.float64)
    fast, slow = net(batch), torch.stack([slow_forward(net, row) for row in batch])
    torch.testing.assert_close(fast, slow)
    parameters = list(net.backbone.parameters())
    torch.testing.assert_close(
        torch.autograd.grad((fast * weight).sum(), parameters),
        torch.autograd.grad((slow * weight).sum(), parameters),
    )


def test_ssd_gradients_against_finite_differences():
    """Including the gradients by the initial state and of the last one."""
    torch.manual_seed(0)
    shapes = [(2, 5, 2, 3), (2, 5, 2), (2,), (2, 5, 4), (2, 5, 4), (2, 2, 4, 3)]
    inputs = [torch.randn(*shape, dtype=torch.float64) for shape in shapes]
    inputs[1], inputs[2] = inputs[1].exp(), -inputs[2].exp()
    assert torch.autograd.gradcheck(
        lambda u, step, decay, write, read, state: ssd(u, step, decay, write, read, 2, state),
        [tensor.requires_grad_() for tensor in inputs],
    )


def test_fast_decay_does_not_overflow():
    """exp of a sum of decays must not be split into factors, one of which could be infinite."""
    u, step = torch.randn(1, 64, 1, 2), torch.full((1, 64, 1), 10.0)
    y, state = ssd(u, step, torch.tensor([-16.0]), torch.ones(1, 64, 3), torch.ones(1, 64, 3), 32)
    torch.testing.assert_close(y, 30 * u)  # all but the own token is forgotten
    assert state.isfinite().all()


def test_initial_values():
    torch.manual_seed(0)
    mixer = Mamba2(V, T, layers=1, width=256, head_width=1).backbone.layers[0].mixer
    decay = mixer.A_log.exp()
    assert 1 <= decay.min() < 1.5
    assert 15.5 < decay.max() <= 16
    assert decay.mean().item() == pytest.approx(8.5, rel=0.1)
    logs = F.softplus(mixer.dt_bias).log10()
    assert logs.mean().item() == pytest.approx(-2, abs=0.15)  # log-uniform in [-3, -1]


def test_channels_must_divide_into_heads():
    with pytest.raises(Impossible, match=r"model.head_width=5: .*divisor of 32"):
        model(head_width=5)
