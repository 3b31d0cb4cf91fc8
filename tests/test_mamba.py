"""Mamba-1 against its recurrence written out in loops; its initial values."""

import pytest
import torch
import torch.nn.functional as F

from forethought.models import Mamba
from forethought.models import mamba as module
from forethought.models.mamba import selective_scan

V, T = 11, 9


def model(**changed):
    torch.manual_seed(0)
    net = Mamba(V, T, **{"layers": 2, "width": 16, "state_size": 5, **changed}).double()
    for name, parameter in net.named_parameters():  # away from the initial symmetry
        torch.nn.init.normal_(parameter, std=0.5 if "A_log" in name else 0.3)
    return net


def slow_forward(net, row):
    """One sequence, token by token, channel by channel and state by state (2312.00752, §2 and alg. 2)."""
    norm = lambda x, m: x / (x.pow(2).mean() + 1e-5).sqrt() * m.weight  # noqa: E731
    x = [net.backbone.embedding.weight[token] for token in row]
    for block in net.backbone.layers:
        m = block.mixer
        inner, states = m.A_log.shape
        rank, width = m.dt_proj.in_features, m.conv1d.kernel_size[0]
        branches = [m.in_proj.weight @ norm(v, block.norm) for v in x]
        h = [[torch.zeros(()).double()] * states for _ in range(inner)]
        out = []
        for t, residual in enumerate(x):
            u = torch.stack(
                [
                    m.conv1d.bias[e]
                    + sum(
                        m.conv1d.weight[e, 0, width - 1 - k] * branches[t - k][e]
                        for k in range(min(t + 1, width))
                    )
                    for e in range(inner)
                ]
            )
            u = u * torch.sigmoid(u)
            dbc = m.x_proj.weight @ u
            step = torch.log1p(torch.exp(m.dt_proj.weight @ dbc[:rank] + m.dt_proj.bias))
            write, read = dbc[rank : rank + states], dbc[rank + states :]
            y = []
            for e in range(inner):
                for n in range(states):
                    kept = torch.exp(-torch.exp(m.A_log[e, n]) * step[e]) * h[e][n]
                    h[e][n] = kept + step[e] * write[n] * u[e]
                y.append(sum(read[n] * h[e][n] for n in range(states)) + m.D[e] * u[e])
            gate = branches[t][inner:]
            out.append(residual + m.out_proj.weight @ (torch.stack(y) * gate * torch.sigmoid(gate)))
        x = out
    return torch.stack([norm(v, net.backbone.norm_f) for v in x])


def test_outputs_and_gradients_against_loops():
    net = model(layers=1, width=4)
    batch = torch.randint(V, (2, 6))
    weight = torch.randn(2, 6, 4, dtype=torch.float64)
    fast, slow = net(batch), torch.stack([slow_forward(net, row) for row in batch])
    torch.testing.assert_close(fast, slow)
    parameters = list(net.backbone.parameters())
    torch.testing.assert_close(
        torch.autograd.grad((fast * weight).sum(), parameters),
        torch.autograd.grad((slow * weight).sum(), parameters),
    )


def scan_inputs(rows=3, length=7, inner=4, states=3):
    torch.manual_seed(0)
    shapes = [(rows, length, inner)] * 2 + [(inner, states)] + [(rows, length, states)] * 2
    draws = [torch.randn(*shape, dtype=torch.float64) for shape in [*shapes, (rows, states, inner)]]
    draws[1], draws[2] = draws[1].exp(), -draws[2].exp()
    return [draw.requires_grad_() for draw in draws]


@pytest.mark.parametrize("length", [1, 4, 7])
def test_scan_gradients_against_finite_differences(monkeypatch, length):
    """Gradients of y and the last state by all inputs, with several tiles and segments, none of them full."""
    monkeypatch.setattr(module, "SEGMENT", 3)
    monkeypatch.setattr(module, "TILE_BYTES", 2 * 2 * 3 * 8)  # two of three rows
    assert torch.autograd.gradcheck(selective_scan, scan_inputs(length=length, inner=3, states=2))


def test_scan_against_a_loop_over_long_sequences():
    u, step, decay, write, read, initial = scan_inputs(rows=2, length=50, inner=6, states=4)
    h, ys = initial, []
    for t in range(50):
        h = (step[:, t, None] * decay.T).exp() * h + write[:, t, :, None] * (step * u)[:, t, None]
        ys.append((read[:, t, :, None] * h).sum(1))
    fast = selective_scan(u, step, decay, write, read, initial)
    slow = torch.stack(ys, 1), h
    torch.testing.assert_close(fast, slow)
    torch.testing.assert_close(
        *(
            torch.autograd.grad(y.pow(2).sum() + last.sin().sum(), (u, step, decay, write, read, initial))
            for y, last in (fast, slow)
        )
    )


def test_no_states_are_kept_without_gradients():
    inputs = [tensor.detach() for tensor in scan_inputs()]
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(saved.append, lambda x: x):
        selective_scan(*inputs)
        assert saved == []


def test_initial_values():
    torch.manual_seed(0)
    net = Mamba(V, T, layers=2, width=100, state_size=5, expand=3)
    for block in net.backbone.layers:
        mixer = block.mixer
        assert mixer.dt_proj.weight.shape == (300, 7)  # ceil(100 / 16)
        assert mixer.dt_proj.weight.abs().max() <= 7**-0.5
        assert mixer.dt_proj.weight.std().item() == pytest.approx((7 * 3) ** -0.5, rel=0.1)
        torch.testing.assert_close(mixer.A_log.exp(), torch.arange(1.0, 6).expand(300, 5))
        logs = F.softplus(mixer.dt_proj.bias).log10()
        assert logs.mean().item() == pytest.approx(-2, abs=0.15)  # log-uniform in [-3, -1]


def test_the_scan_is_fp32_under_autocast():
    inputs = [tensor.detach().float().requires_grad_() for tensor in scan_inputs()]
    results = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            y, last = selective_scan(*inputs)
            results.append((y, last, *torch.autograd.grad(y.pow(2).sum() + last.sum(), inputs)))
    assert all(torch.equal(one, two) for one, two in zip(*results, strict=True))
