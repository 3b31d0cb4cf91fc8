"""Shared parts of Mamba and Mamba-2: contract, cache, new weights and CUDA kernels."""

import copy
import sys
import types
import warnings

import pytest
import torch

from forethought.errors import InputError
from forethought.models import Mamba, Mamba2, mamba, mamba2, state_space
from forethought.objectives.belief_state import fresh_twin
from forethought.optimizers import split_by_decay

V, T, P = 11, 9, 5
SMALL = {Mamba: {"state_size": 5}, Mamba2: {"state_size": 5, "head_width": 8, "chunk": 4}}
MIXER = {
    Mamba: {
        "A_log": (32, 5),
        "D": (32,),
        "in_proj.weight": (64, 16),
        "conv1d.weight": (32, 1, 4),
        "conv1d.bias": (32,),
        "x_proj.weight": (1 + 2 * 5, 32),
        "dt_proj.weight": (32, 1),
        "dt_proj.bias": (32,),
        "out_proj.weight": (16, 32),
    },
    Mamba2: {
        "dt_bias": (4,),
        "A_log": (4,),
        "D": (4,),
        "in_proj.weight": (2 * 32 + 2 * 5 + 4, 16),
        "conv1d.weight": (32 + 2 * 5, 1, 4),
        "conv1d.bias": (32 + 2 * 5,),
        "norm.weight": (32,),
        "out_proj.weight": (16, 32),
    },
}
both = pytest.mark.parametrize("kind", [Mamba, Mamba2], ids=["mamba", "mamba2"])


def model(kind, seed=0, **changed):
    torch.manual_seed(seed)
    return kind(V, T, **{"layers": 2, "width": 16, **SMALL[kind], **changed}).double()


def tokens(rows=3, length=T):
    return torch.randint(V, (rows, length), generator=torch.Generator().manual_seed(1))


@both
def test_names_and_shapes_are_mamba_ssms(kind):
    """Including the order, on which an optimiser's state depends."""
    expected = {"backbone.embedding.weight": (V, 16)}
    for i in range(2):
        expected[f"backbone.layers.{i}.norm.weight"] = (16,)
        expected |= {f"backbone.layers.{i}.mixer.{name}": shape for name, shape in MIXER[kind].items()}
    expected |= {"backbone.norm_f.weight": (16,), "lm_head.weight": (V, 16)}
    shapes = {name: tuple(tensor.shape) for name, tensor in model(kind).state_dict().items()}
    assert list(shapes.items()) == list(expected.items())


@both
@torch.no_grad()
def test_the_cache_does_not_grow(kind):
    net, batch = model(kind), tokens()
    whole = net(batch)
    for pieces in ([T], [2, P, 2]):  # longer than, equal to and shorter than the window of three tokens
        cache = net.init_cache(len(batch), T)
        sizes = [part.ssm.numel() + part.window.numel() for part in cache.mixers]
        parts = [net(piece, P, cache) for piece in batch.split(pieces, 1)]
        torch.testing.assert_close(torch.cat(parts, 1), whole)
        assert sizes == [part.ssm.numel() + part.window.numel() for part in cache.mixers]


@both
def test_gradients_flow_through_a_cache(kind):
    net, batch = model(kind), tokens()
    torch.manual_seed(2)
    weight = torch.randn(3, T, 16, dtype=torch.float64)
    (net(batch) * weight).sum().backward()
    whole = {name: parameter.grad.clone() for name, parameter in net.named_parameters() if "lm_" not in name}
    net.zero_grad()
    cache = net.init_cache(3, T)
    (torch.cat([net(piece, 0, cache) for piece in batch.split([4, 1, 4], 1)], 1) * weight).sum().backward()
    for name, gradient in whole.items():
        torch.testing.assert_close(dict(net.named_parameters())[name].grad, gradient)


@both
@torch.no_grad()
def test_the_output_layer_shares_the_embedding(kind):
    net, other = model(kind), model(kind, seed=1)
    other.load_state_dict(net.state_dict())
    assert other.lm_head.weight is other.embedding.weight
    hidden = net(tokens())
    torch.testing.assert_close(net.logits(hidden), net.lm_head(hidden))


@both
def test_a_twin_shares_the_embedding_and_nothing_else(kind):
    net = model(kind)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    twin = fresh_twin(net)
    assert twin.embedding is net.embedding
    assert twin.lm_head.weight is net.embedding.weight
    assert twin.state_dict().keys() == net.state_dict().keys()
    for name, parameter in twin.named_parameters():
        assert (parameter is net.get_parameter(name)) == ("embedding" in name)
        if parameter.ndim > 1 and "embedding" not in name and "A_log" not in name:
            assert not torch.equal(parameter, net.get_parameter(name)), name
    for name, tensor in net.state_dict().items():
        if "embedding" not in name and "lm_head" not in name:  # both are redrawn, then shared
            assert torch.equal(tensor, before[name])
    assert len(split_by_decay(twin)[1]) == len(split_by_decay(net)[1])


@both
def test_decay_rates_skips_and_step_biases_take_no_weight_decay(kind):
    sent = copy.deepcopy(model(kind))  # like a process start, deepcopy drops attributes of parameters
    for net in (model(kind), fresh_twin(model(kind)), sent):
        names = {id(parameter): name for name, parameter in net.named_parameters()}
        decayed = {names[id(parameter)].split(".", 3)[-1] for parameter in split_by_decay(net)[0]}
        expected = {f"mixer.{part}.weight" for part in ("in_proj", "conv1d", "out_proj")}
        further = {"mixer.x_proj.weight", "mixer.dt_proj.weight"} if kind is Mamba else set()
        assert decayed == expected | further


@both
def test_initial_weights_have_their_scales(kind):
    torch.manual_seed(0)
    net = kind(500, T, layers=8, width=128)
    assert net.embedding.weight.std().item() == pytest.approx(0.02, rel=0.05)
    for name, parameter in net.named_parameters():
        if name.endswith("out_proj.weight"):  # PyTorch's uniform in ±1/sqrt(256), over sqrt(layers)
            assert parameter.std().item() == pytest.approx((256 * 3 * 8) ** -0.5, rel=0.05)
        elif name.endswith("in_proj.weight"):
            assert parameter.std().item() == pytest.approx((128 * 3) ** -0.5, rel=0.05)
        elif "norm" in name or name.endswith(".D"):
            assert (parameter == 1).all()
        elif name.endswith(("dt_proj.bias", "dt_bias")):
            step = torch.nn.functional.softplus(parameter.double())
            assert step.min() >= 1e-3 * 0.999
            assert step.max() <= 1e-1 * 1.001


@both
def test_the_recurrent_state_is_fp32_under_autocast(kind):
    net, batch = model(kind).float(), tokens()
    cache = net.init_cache(3, T)
    with torch.autocast("cpu", torch.bfloat16):
        net(batch, 0, cache)
    assert all(part.ssm.dtype == torch.float32 for part in cache.mixers)


@pytest.fixture
def kernels(monkeypatch):
    """Replace mamba-ssm by our own scans behind its signatures, and record the calls."""
    calls = []

    def selective_scan_fn(u, delta, A, B, C):
        assert u.shape == delta.shape
        assert A.shape == (u.shape[1], B.shape[1])
        calls.append("selective_scan_fn")
        return mamba.selective_scan(u.mT, delta.mT, A, B.mT, C.mT)[0].mT

    def mamba_chunk_scan_combined(x, dt, A, B, C, chunk_size):
        assert B.shape[2] == 1
        calls.append("mamba_chunk_scan_combined")
        return mamba2.ssd(x, dt, A, B[:, :, 0], C[:, :, 0], chunk_size)[0]

    for path, function in (
        ("mamba_ssm.ops.selective_scan_interface", selective_scan_fn),
        ("mamba_ssm.ops.triton.ssd_combined", mamba_chunk_scan_combined),
    ):
        parts = path.split(".")
        for end in range(1, len(parts) + 1):
            name = ".".join(parts[:end])
            monkeypatch.setitem(sys.modules, name, sys.modules.get(name) or types.ModuleType(name))
            if end > 1:
                monkeypatch.setattr(
                    sys.modules[name.rpartition(".")[0]], parts[end - 1], sys.modules[name], raising=False
                )
        monkeypatch.setattr(sys.modules[path], function.__name__, function, raising=False)
    state_space.load_kernel.cache_clear()
    yield calls
    state_space.load_kernel.cache_clear()


class OnCuda(torch.Tensor):
    """A tensor that claims to be on a GPU."""

    is_cuda = True


@both
@torch.no_grad()
def test_kernels_are_called_as_they_are_declared(kind, kernels, monkeypatch):
    net, batch = model(kind, backend="mamba_ssm"), tokens()
    expected = model(kind)(batch)
    with pytest.raises(InputError, match=r"model.backend=mamba_ssm: .* cpu .* auto or torch"):
        net(batch)
    kernel = mamba.SCAN_KERNEL if kind is Mamba else mamba2.SSD_KERNEL
    module = sys.modules[kind.__module__]
    monkeypatch.setattr(module, "kernel_for", lambda x, backend, name: state_space.load_kernel(name))
    torch.testing.assert_close(net(batch), expected)
    assert kernels == [kernel.partition(":")[2]] * 2
    net(batch, 0, net.init_cache(3, T))  # with a cache: plain PyTorch
    assert len(kernels) == 2


@both
def test_which_backend_runs(kind, kernels):
    kernel = mamba.SCAN_KERNEL if kind is Mamba else mamba2.SSD_KERNEL
    there, here = torch.ones(2).as_subclass(OnCuda), torch.ones(2)
    assert state_space.kernel_for(there, "auto", kernel) is state_space.load_kernel(kernel)
    assert state_space.kernel_for(there, "mamba_ssm", kernel) is state_space.load_kernel(kernel)
    assert state_space.kernel_for(there.double(), "auto", kernel) is None
    assert state_space.kernel_for(there, "torch", kernel) is None
    assert state_space.kernel_for(here, "auto", kernel) is None


@pytest.mark.skipif("mamba_ssm" in sys.modules, reason="needs mamba-ssm to be missing")
@both
def test_without_kernels(kind, monkeypatch):
    monkeypatch.setitem(sys.modules, "mamba_ssm", None)  # its import fails
    state_space.load_kernel.cache_clear()
    state_space.warn_once.cache_clear()
    with pytest.raises(InputError, match=r"model.backend=mamba_ssm: cannot be imported") as refusal:
        model(kind, backend="mamba_ssm")
    assert "\n" not in str(refusal.value)
    kernel = mamba.SCAN_KERNEL if kind is Mamba else mamba2.SSD_KERNEL
    with pytest.warns(UserWarning, match="plain PyTorch on this GPU"):
        assert state_space.kernel_for(torch.ones(2).as_subclass(OnCuda), "auto", kernel) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert state_space.kernel_for(torch.ones(2).as_subclass(OnCuda), "auto", kernel) is None
    state_space.load_kernel.cache_clear()
