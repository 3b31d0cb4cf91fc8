"""The block in C++ equals the one of PyTorch's operations, and gives way to it where it must."""

import copy
import os
import shutil
import subprocess

import pytest
import torch
from helpers import gpt, rows, with_large_weights
from test_every_objective import every_objective
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from forethought.models import compiled_block
from forethought.models.gpt import Attention, GPTBlock
from forethought.models.layers import Context, causal_mask

pytestmark = pytest.mark.skipif(
    shutil.which(os.environ.get("CXX") or "c++") is None, reason="needs a C++ compiler"
)


def block_and_input(width=32, heads=2, batch=5, length=13):
    torch.manual_seed(0)
    std = 1.7 / width**0.5  # scores of attention alike at every width: larger ones amplify rounding
    block = with_large_weights(GPTBlock(width, Attention(width, heads)), std).float()
    with torch.no_grad():
        for parameter in block.parameters():
            if parameter.ndim == 1:
                parameter += 0.3 * torch.randn_like(parameter)
    return block, torch.randn(batch, length, width, requires_grad=True)


def mask_of(kind, batch, length):
    prefix = causal_mask(length)
    prefix[:, : length // 2] = True
    of_each = (torch.rand(batch, length, length) < 0.3) | torch.eye(length, dtype=torch.bool)
    return {"causal": None, "prefix": prefix, "full": torch.ones_like(prefix), "of each row": of_each}[kind]


def computed(block, x, threads, **facts):
    """Return the hidden states and the gradients of x and of all parameters."""
    block.threads = threads
    y = block(x, Context(torch.arange(x.shape[1]), **facts))
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y)
    return y, *torch.autograd.grad((y * weights).sum(), [x, *block.parameters()])


@pytest.mark.parametrize("mask", ["causal", "prefix", "full", "of each row"])
@pytest.mark.parametrize("last", [None, 4, 1])
@pytest.mark.parametrize(
    ("width", "heads", "batch", "length"),
    [(32, 2, 5, 13), (32, 4, 64, 31), (8, 1, 3, 8), (48, 2, 9, 17), (128, 4, 2, 40), (16, 1, 1, 1)],
)
def test_values_and_gradients(width, heads, batch, length, last, mask):
    block, x = block_and_input(width, heads, batch, length)
    facts = {"attention_mask": mask_of(mask, batch, length), "last": last}
    found = computed(block, x, 2, **facts)
    assert "_Block" in str(found[0].grad_fn)
    exact = computed(block.double(), x.detach().double().requires_grad_(), 0, **facts)
    for one, other in zip(found, exact, strict=True):
        assert (one - other).abs().max() < 1e-5 * other.abs().max() + 1e-6


def test_no_bit_depends_on_the_threads():
    block, x = block_and_input(batch=50)
    one = computed(block, x, 1)
    for threads in (2, 3, 20):
        assert all(map(torch.equal, computed(block, x, threads), one))


def test_without_gradients_it_keeps_nothing(monkeypatch):
    block, x = block_and_input()
    with_gradients = computed(block, x, 2)[0]
    monkeypatch.setattr(compiled_block.load_library(), "kept_size", None)
    with torch.no_grad():
        y = block(x, Context(torch.arange(x.shape[1])))
    assert torch.equal(y, with_gradients)
    frozen = block.requires_grad_(False)(x.detach(), Context(torch.arange(x.shape[1])))
    assert torch.equal(frozen, with_gradients)


def test_what_needs_no_gradient_has_none():
    block, x = block_and_input()
    whole = dict(zip(["y", "x", *dict(block.named_parameters())], computed(block, x, 1), strict=True))
    block.mlp.requires_grad_(False)
    y = block(x.detach(), Context(torch.arange(x.shape[1])))
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    (y * weights).sum().backward()
    assert x.grad is None
    for name, parameter in block.named_parameters():
        expected = None if name.startswith("mlp.") else whole[name]
        assert expected is None if parameter.grad is None else torch.equal(parameter.grad, expected)


def test_views_and_masks_of_any_layout():
    block, x = block_and_input()
    mask = mask_of("prefix", 5, 13)
    expected = computed(block, x, 2, attention_mask=mask)
    strided = torch.stack([x, x], 3).detach()[..., 0].requires_grad_()
    assert not strided.is_contiguous()
    for of_rows in (mask[None], mask.expand(5, 13, 13), mask.T.contiguous().T):
        found = computed(copy.deepcopy(block), strided, 2, attention_mask=of_rows)
        assert all(map(torch.equal, found, expected))


def test_large_and_small_inputs():
    """The range of the exponential: an attention that is all on one token, a GELU far from zero."""
    block, x = block_and_input()
    with torch.no_grad():
        block.attention.input.weight *= 100
        block.mlp.input.weight *= 100
    found = computed(block, x, 1)
    for one, other in zip(
        found, computed(block.double(), x.detach().double().requires_grad_(), 0), strict=True
    ):
        assert (one - other).abs().max() < 1e-4 * other.abs().max()


def test_a_number_that_is_none_stays_in_its_row():
    block, x = block_and_input()
    with torch.no_grad():
        x[2, 3] = torch.nan
        block.threads = 1
        y = block(x, Context(torch.arange(x.shape[1])))
    assert y[2, 3:].isnan().all()
    assert y[[0, 1, 3, 4]].isfinite().all()


class Calls:
    """Counts the calls of block.cpp."""

    def __init__(self, monkeypatch):
        self.count, compute = 0, compiled_block.compute

        def counted(*arguments):
            self.count += 1
            return compute(*arguments)

        monkeypatch.setattr(compiled_block, "compute", counted)


@pytest.fixture
def calls(monkeypatch):
    return Calls(monkeypatch)


@every_objective
def test_every_objective_trains_the_same(name, case, calls):
    """Up to rounding; with the blocks that an objective adds, too."""
    results = []
    for threads in (0, 2):
        objective = with_large_weights(case.build(name), std=0.3).float().train()
        blocks = [part for part in objective.modules() if isinstance(part, GPTBlock) and part.compilable]
        for block in blocks:
            block.threads = threads
        torch.manual_seed(2)
        loss = objective.loss(rows(case.task, 6))
        loss.backward()
        results.append([loss, *(p.grad for p in objective.parameters() if p.grad is not None)])
    assert bool(calls.count) == bool(blocks)
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5 * max(1, other.abs().max().item()))


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_where_it_is_used_and_where_not(calls):
    block, x = block_and_input()
    context = Context(torch.arange(x.shape[1]))
    block(x, context)
    assert calls.count == 0
    block.threads = 1
    block(x, context)
    assert calls.count == 1
    block(x, context.of_layer(block.init_cache(*x.shape[:2]), None))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        block(x, context)
    handle = block.attention.register_forward_hook(lambda *_: None)
    block(x, context)
    handle.remove()
    with FlopCounterMode(display=False) as counter:
        block(x, context)
    assert counter.get_total_flops() > 0
    long = torch.randn(1, 300, x.shape[2])
    block(long, Context(torch.arange(300)))
    torch.func.vmap(lambda one: block(one[None], context))(x)
    assert calls.count == 1
    block.double()(x.double(), context)
    assert calls.count == 1


def test_which_blocks_it_can_compute():
    assert gpt(width=32, heads=2).blocks[0].compilable
    assert not gpt(width=32, heads=8).blocks[0].compilable  # 4 numbers a head
    assert not gpt(width=256, heads=4).blocks[0].compilable  # no faster
    assert not gpt(width=32, heads=2, positions="rotary").blocks[0].compilable


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("mlp_norm", nn.LayerNorm(32, eps=1e-6)),
        ("mlp", nn.Sequential(nn.Linear(32, 32))),
        ("attention", nn.Identity()),
        ("mlp.input", nn.Sequential(nn.Linear(32, 128))),
    ],
)
def test_a_block_with_another_module_is_left_alone(name, other):
    block, _ = block_and_input()
    block.set_submodule(name, other)
    assert not block.compilable


@pytest.mark.parametrize("threads", [0, 1])
def test_neither_block_has_second_derivatives(threads):
    block, x = block_and_input()
    block.threads = threads
    y = block(x, Context(torch.arange(x.shape[1])))
    with pytest.raises(RuntimeError, match=r"not implemented|does not require grad"):
        torch.autograd.grad(y.sum(), x, create_graph=True)[0].sum().backward()


@pytest.mark.parametrize(
    "variables",
    [{"CXX": "no-compiler"}, {"CXX": "false"}, {"XDG_CACHE_HOME": "/proc/self"}],
    ids=["no compiler", "a compiler that fails", "no room"],
)
def test_a_machine_without_a_compiler(monkeypatch, tmp_path, variables):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(compiled_block, "load_library", compiled_block.load_library.__wrapped__)
    error = compiled_block.compile_error.__wrapped__()
    assert error
    assert "\n" not in error
    assert not [*tmp_path.rglob("*.so")]


def test_it_is_compiled_once(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    anew = compiled_block.load_library.__wrapped__
    anew()
    (compiled,) = (tmp_path / "forethought").iterdir()
    written = compiled.stat().st_mtime_ns
    monkeypatch.setattr(subprocess, "run", None)
    anew()
    assert compiled.stat().st_mtime_ns == written
