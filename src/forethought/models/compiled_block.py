"""A GPT block in C++ (`block.cpp`), compiled for the CPU at hand: faster where blocks are small."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import subprocess
from collections.abc import Sequence
from functools import cache
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from platformdirs import user_cache_path
from torch import Tensor
from torch.autograd.function import once_differentiable

from forethought.errors import describe_error
from forethought.models.layers import Context

if TYPE_CHECKING:
    from forethought.models.gpt import GPTBlock

SOURCE = Path(__file__).with_name("block.cpp")

PARAMETERS = attrgetter(
    *("attention_norm.weight", "attention_norm.bias"),
    *("attention.input.weight", "attention.input.bias", "attention.output.weight", "attention.output.bias"),
    *("mlp_norm.weight", "mlp_norm.bias"),
    *("mlp.input.weight", "mlp.input.bias", "mlp.output.weight", "mlp.output.bias"),
)
"""The parameters of a block, in the order of `Parameters` in block.cpp."""

PARTS = attrgetter(
    *("attention_norm", "attention", "attention.input", "attention.output"),
    *("mlp_norm", "mlp", "mlp.input", "mlp.output"),
)
"""The modules of a block, which block.cpp does not call."""

WIDEST = 128
"""Wider blocks are no faster: PyTorch's products then take nearly all of the time."""

LONGEST = 256
"""Tokens of the longest sequence: the attention weights are kept, which takes memory by its square."""


def supports(width: int, heads: int) -> bool:
    """Return True if block.cpp can compute blocks of this size, and gains by it."""
    return width <= WIDEST and width % (8 * heads) == 0


def applies(block: GPTBlock, x: Float[Tensor, "B T D"], context: Context) -> bool:
    """Return True if block.cpp can compute this call: on a CPU, fp32, short, no cache, no hook on a part."""
    return (
        context.cache is None
        and type(x) is Tensor  # and none that has a shape alone
        and x.device.type == "cpu"
        and x.dtype == block.mlp_norm.weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()
        and x.shape[1] <= LONGEST
        and not any(part._forward_hooks or part._forward_pre_hooks for part in PARTS(block))
    )


def compute(block: GPTBlock, x: Float[Tensor, "B T D"], context: Context) -> Float[Tensor, "B L D"]:
    """Return what PyTorch's operations do, up to rounding. Like these, it has no second derivatives."""
    return _Block.apply(x, block, context, *PARAMETERS(block))


class _Block(torch.autograd.Function):
    """`compute` with its gradients. `shape` is the `Shape` of block.cpp."""

    @staticmethod
    def forward(
        ctx: Any, x: Float[Tensor, "B T D"], block: GPTBlock, context: Context, *parameters: Tensor
    ) -> Float[Tensor, "B L D"]:
        batch, length, width = x.shape
        heads: Any = block.attention.heads
        last = length if context.last is None else min(context.last, length)
        mask = None if context.attention_mask is None else context.attention_mask.contiguous()
        masks = 0 if mask is None else mask.numel() // length**2
        shape = (ctypes.c_int64 * 6)(batch, length, last, width, heads, masks)
        packed, y = x.contiguous(), x.new_empty(batch, last, width)
        kept = x.new_empty(library().kept_size(shape)) if any(ctx.needs_input_grad) else None
        library().block_forward(
            *(shape, block.threads, _address(packed), _address(mask), _addresses(parameters)),
            *(_address(y), _address(kept)),
        )
        ctx.save_for_backward(x, kept, *parameters)
        ctx.shape, ctx.threads = shape, block.threads
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Float[Tensor, "B L D"]) -> tuple[Tensor | None, ...]:
        x, kept, *parameters = ctx.saved_tensors
        packed, dy, dx = x.contiguous(), dy.contiguous(), x.new_empty(x.shape)
        gradients = x.new_empty(sum(map(torch.numel, parameters)))
        library().block_backward(
            *(ctx.shape, ctx.threads, _address(packed), _addresses(parameters)),
            *map(_address, (dy, kept, dx, gradients)),
        )
        of_each = gradients.split([parameter.numel() for parameter in parameters])
        views = (one.view_as(parameter) for one, parameter in zip(of_each, parameters, strict=True))
        return dx, None, None, *views


def _address(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def _addresses(parameters: Sequence[Tensor]) -> ctypes.Array[ctypes.c_void_p]:
    assert all(parameter.is_contiguous() for parameter in parameters)
    return (ctypes.c_void_p * len(parameters))(*[parameter.data_ptr() for parameter in parameters])


@cache
def failure() -> str | None:
    """Return why block.cpp cannot be compiled or loaded on this machine, or None."""
    try:
        library()
    except (OSError, subprocess.CalledProcessError) as error:
        return describe_error(error)
    return None


@cache
def library() -> ctypes.CDLL:
    """Compile block.cpp, once for each kind of CPU and user, and load it.

    Raises:
        OSError: no compiler (`CXX`, or `c++`), no room for the file, or it cannot be loaded.
        CalledProcessError: the compiler failed.
    """
    command = [os.environ.get("CXX") or "c++", "-std=c++17", "-O3", "-march=native", "-ffp-contract=fast"]
    command += ["-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC", "-pthread", str(SOURCE)]
    # A home directory may be shared by machines with other CPUs.
    machine = [platform.machine(), platform.system(), str(torch.cpu.get_capabilities())]
    name = hashlib.sha256(repr([SOURCE.read_text(encoding="utf-8"), command[:-1], machine]).encode())
    compiled = user_cache_path("forethought") / f"block-{name.hexdigest()[:16]}.so"
    if not compiled.exists():
        compiled.parent.mkdir(parents=True, exist_ok=True)
        own = compiled.with_suffix(f".{os.getpid()}")
        subprocess.run([*command, "-o", str(own)], check=True, capture_output=True, text=True)
        own.replace(compiled)
    loaded = ctypes.CDLL(str(compiled))
    loaded.kept_size.restype = ctypes.c_int64
    return loaded
