"""Shared parts of Mamba and Mamba-2: contract, cache, new weights and CUDA kernels."""

import copy
import importlib
import sys
import warnings
from dataclasses import replace

import pytest
import torch

from forethought.errors import InputError
from forethought.models import Mamba, Mamba2, mamba, mamba2, state_space
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
        sizes = [part.ssm.numel() + part.window.numel() for part in cache.layers]
        parts = [net(piece, P, cache) for piece in batch.split(pieces, 1)]
        torch.testing.assert_close(torch.cat(parts, 1), whole)
        assert sizes == [part.ssm.numel() + part.window.numel() for part in cache.layers]


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
    twin = net.twin()
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
    for net in (model(kind), model(kind).twin(), sent):
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
    assert all(part.ssm.dtype == torch.float32 for part in cache.layers)


SCAN = """
from forethought.models.mamba import selective_scan
calls = 0
def selective_scan_fn(u, delta, A, B, C):
    global calls
    calls += 1
    assert u.shape == delta.shape and A.shape == (u.shape[1], B.shape[1])
    return selective_scan(u.mT, delta.mT, A, B.mT, C.mT)[0].mT
"""
SSD = """
from forethought.models.mamba2 import ssd
calls = 0
def mamba_chunk_scan_combined(x, dt, A, B, C, chunk_size):
    global calls
    calls += 1
    assert B.shape[2] == 1 and chunk_size == 4
    return ssd(x, dt, A, B[:, :, 0], C[:, :, 0], chunk_size)[0]
"""
KERNELS = {Mamba: mamba.SCAN_KERNEL, Mamba2: mamba2.SSD_KERNEL}


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Return a function that installs a package like mamba-ssm, with our own scans behind its signatures."""

    def forget():
        for name in [name for name in sys.modules if name.partition(".")[0] == "mamba_ssm"]:
            del sys.modules[name]
        state_space.FUNCTIONS.clear()
        state_space.warn_once.cache_clear()

    def install(scan=SCAN, ssd=SSD):
        files = {
            "__init__.py": "from mamba_ssm.ops.selective_scan_interface import selective_scan_fn",
            "ops/__init__.py": "",
            "ops/selective_scan_interface.py": scan,
            "ops/triton/__init__.py": "",
            "ops/triton/ssd_combined.py": ssd,
        }
        for name, text in files.items():
            path = tmp_path / "mamba_ssm" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        monkeypatch.syspath_prepend(tmp_path)
        importlib.invalidate_caches()

    forget()
    monkeypatch.setattr(mamba2, "SSD_KERNEL", replace(mamba2.SSD_KERNEL, least_length=T))
    yield install
    forget()


class OnCuda(torch.Tensor):
    """A tensor that claims to be on a GPU."""

    is_cuda = True


def mix(kind, cuda=True, dtype=torch.float32, **options):
    """The output of one mixer, from a tensor that claims to be on a GPU or not."""
    mixer = model(kind, **options).backbone.layers[0].mixer.to(dtype)
    x = torch.randn(3, T, 16, generator=torch.Generator().manual_seed(1)).to(dtype)
    return mixer(x.as_subclass(OnCuda) if cuda else x).as_subclass(torch.Tensor)


def calls(kind):
    """Calls of a kernel so far; the first of them is the trial."""
    module = sys.modules.get(KERNELS[kind].name.partition(":")[0])
    return module.calls if module else 0


@both
@torch.no_grad()
def test_kernels_are_called_as_they_are_declared(kind, install):
    install()
    expected = mix(kind, backend="torch")
    assert calls(kind) == 0
    for count, backend in ((2, "auto"), (3, "mamba_ssm"), (4, "auto")):
        torch.testing.assert_close(mix(kind, backend=backend), expected)
        assert calls(kind) == count
    with torch.inference_mode():
        torch.testing.assert_close(mix(kind), expected)


@both
def test_auto_leaves_short_rows_to_plain_pytorch(kind, install, monkeypatch):
    """Those of Mamba-2, whose kernel is slower there."""
    install()
    monkeypatch.setattr(mamba2, "SSD_KERNEL", replace(mamba2.SSD_KERNEL, least_length=T + 1))
    mix(kind, backend="auto")
    assert calls(kind) == (0 if kind is Mamba2 else 2)
    mix(kind, backend="mamba_ssm")
    assert calls(kind) > 0


@both
def test_other_tensors_are_left_to_plain_pytorch(kind, install):
    install()
    for where in ({"cuda": False}, {"dtype": torch.float64}):
        mix(kind, backend="auto", **where)
        with pytest.raises(InputError, match=r"model.backend=mamba_ssm: .* c(pu|uda) .* auto or torch"):
            mix(kind, backend="mamba_ssm", **where)
    assert calls(kind) == 0


@both
def test_decoding_with_a_cache_is_plain_pytorch(kind, install):
    install()
    net = model(kind, backend="mamba_ssm").float()
    net.backbone.layers[0].mixer(torch.randn(3, T, 16).as_subclass(OnCuda), net.init_cache(3, T).layers[0])
    assert calls(kind) == 0


@both
def test_without_mamba_ssm(kind, monkeypatch, install):
    monkeypatch.setitem(sys.modules, "mamba_ssm", None)  # its import fails
    with pytest.raises(InputError, match=r"model.backend=mamba_ssm: cannot be imported") as refusal:
        model(kind, backend="mamba_ssm")
    assert "\n" not in str(refusal.value)
    falls_back(kind, "mamba_ssm")


def falls_back(kind, reason):
    """To plain PyTorch, with one warning of one line."""
    with pytest.warns(UserWarning, match=f"plain PyTorch on this GPU.*{reason}") as warned:
        found = mix(kind)
    assert "\n" not in str(warned[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.testing.assert_close(mix(kind), found)
    torch.testing.assert_close(found, mix(kind, backend="torch"))


@pytest.mark.parametrize("first", [Mamba, Mamba2])
@pytest.mark.parametrize("missing", [Mamba, Mamba2])
def test_a_missing_kernel_hides_no_other_one(first, missing, install):
    """In any order, though the package's `__init__` imports Mamba-1's, and fails without it."""
    absent = "import cuda_code_that_was_not_built"
    install(**{"scan" if missing is Mamba else "ssd": absent})
    for kind in (first, *{Mamba, Mamba2} - {first}):
        if kind is missing:
            falls_back(kind, "cuda_code_that_was_not_built")
            with pytest.raises(InputError, match=r"cannot be imported .*was_not_built"):
                model(kind, backend="mamba_ssm")
        else:
            mix(kind, backend="mamba_ssm")
            assert calls(kind) > 0


BACKWARD = """
import torch
class Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u, *rest): return u * 1
    @staticmethod
    def backward(ctx, *rest): raise RuntimeError("no kernel image")
"""


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("raise ImportError('not built;\\nbuild it')", "not built"),  # as mamba-ssm does after 2.3.2
        ("raise AssertionError", "AssertionError"),
        ("return Scan.apply(*inputs)", "no kernel image"),
    ],
)
@both
def test_a_kernel_that_fails_when_called_is_not_used(kind, body, reason, install):
    function = KERNELS[kind].name.partition(":")[2]
    source = f"{BACKWARD}def {function}(*inputs): {body}"
    install(**{"scan" if kind is Mamba else "ssd": source})
    falls_back(kind, reason)
    with pytest.raises(InputError, match=f"model.backend=mamba_ssm: cannot be called .*{reason}.* auto or"):
        mix(kind, backend="mamba_ssm")


def test_a_full_gpu_is_no_reason_to_drop_a_kernel(install):
    install("import torch\ndef selective_scan_fn(*inputs): raise torch.OutOfMemoryError")
    for _ in range(2):
        with pytest.raises(torch.OutOfMemoryError):
            mix(Mamba)
