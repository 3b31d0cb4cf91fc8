"""A GPT block in C++ (`block.cpp`), compiled for the CPU at hand: faster where blocks are small."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from jaxtyping import Float
from platformdirs import user_cache_path
from torch import Tensor, nn
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

MODULES = attrgetter(
    *("attention_norm", "mlp_norm", "attention", "mlp"),
    *("attention.input", "attention.output", "mlp.input", "mlp.output"),
)
"""The modules of a block, which block.cpp does not call."""

MAX_WIDTH = 128
"""Wider blocks are no faster: PyTorch's products then take nearly all of the time."""

MAX_LENGTH = 256
"""Tokens of the longest sequence: the attention weights are kept, which takes memory by its square."""


def supports(block: GPTBlock) -> bool:
    """Return True if block.cpp can compute a block: its size, and that no module has been replaced."""
    width, heads = len(block.mlp_norm.weight), cast(int, block.attention.heads)
    norms, linears = MODULES(block)[:2], MODULES(block)[4:]
    return (
        width <= MAX_WIDTH
        and width % (8 * heads) == 0
        and all(type(norm) is nn.LayerNorm and norm.eps == 1e-5 for norm in norms)
        and all(type(linear) is nn.Linear for linear in linears)
        and all(parameter.is_contiguous() for parameter in PARAMETERS(block))
    )


def can_compute(block: GPTBlock, x: Float[Tensor, "B T D"], context: Context) -> bool:
    """Return True if block.cpp can compute this call: on a CPU, fp32, short, no cache, and no hooks."""
    mask = context.attention_mask
    return (
        context.cache is None
        and x.device.type == "cpu"
        and x.dtype == block.mlp_norm.weight.dtype == torch.float32
        and 0 < x.shape[1] <= MAX_LENGTH
        and (mask is None or mask.ndim <= 3)
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()
        and not torch._C._len_torch_dispatch_stack()  # such as PyTorch's counter of FLOPs
        and not any(
            module._forward_hooks or module._forward_pre_hooks or module._backward_hooks
            for module in MODULES(block)
        )
    )


def compute(block: GPTBlock, x: Float[Tensor, "B T D"], context: Context) -> Float[Tensor, "B L D"]:
    """Return the hidden states that PyTorch's operations would return, up to rounding.

    There are no second derivatives, as PyTorch's attention has none either.

    Raises:
        MemoryError: no memory for the intermediate values.
    """
    parameters = PARAMETERS(block)
    keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (x, *parameters))
    return _Block.apply(x, block, context, keep, *parameters)


class _Block(torch.autograd.Function):
    """`compute` with its gradients. `shape` is the `Shape` of block.cpp."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Float[Tensor, "B T D"],
        block: GPTBlock,
        context: Context,
        keep: bool,
        *parameters: Tensor,
    ) -> Float[Tensor, "B L D"]:
        batch, length, width = x.shape
        heads = cast(int, block.attention.heads)
        last = length if context.last is None else min(context.last, length)
        mask = None if context.attention_mask is None else context.attention_mask.contiguous()
        masks = 0 if mask is None else mask.numel() // length**2
        shape = (ctypes.c_int64 * 6)(batch, length, last, width, heads, masks)
        packed, y = x.contiguous(), x.new_empty(batch, last, width)
        kept = x.new_empty(load_library().kept_size(shape)) if keep else None
        failed = load_library().block_forward(
            *(shape, block.threads, _address(packed), _address(mask), _addresses(parameters)),
            *(_address(y), _address(kept)),
        )
        if failed:
            raise MemoryError("no memory for a block in C++")
        ctx.save_for_backward(x, kept, *parameters)
        ctx.shape, ctx.threads = shape, block.threads
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Float[Tensor, "B L D"]) -> tuple[Tensor | None, ...]:
        x, kept, *parameters = ctx.saved_tensors
        packed, dy, dx = x.contiguous(), dy.contiguous(), x.new_empty(x.shape)
        gradients = x.new_empty(sum(map(torch.numel, parameters)))
        failed = load_library().block_backward(
            *(ctx.shape, ctx.threads, _address(packed), _addresses(parameters)),
            *map(_address, (dy, kept, dx, gradients)),
        )
        if failed:
            raise MemoryError("no memory for the gradients of a block in C++")
        of_each = gradients.split([parameter.numel() for parameter in parameters])
        views = (one.view_as(parameter) for one, parameter in zip(of_each, parameters, strict=True))
        return dx, None, None, None, *views


def _address(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def _addresses(parameters: Sequence[Tensor]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(parameters))(*[parameter.data_ptr() for parameter in parameters])


@cache
def compile_error() -> str | None:
    """Return why block.cpp cannot be compiled or loaded on this machine, or None."""
    try:
        load_library()
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines()
        return f"{error.cmd[0]} failed: {lines[-1] if lines else error.returncode}"
    except OSError as error:
        return describe_error(error)
    return None


@cache
def load_library() -> ctypes.CDLL:
    """Compile block.cpp, once for each kind of CPU and user, and load it.

    Raises:
        OSError: no compiler (`CXX`, or `c++`), no room for the file, or it cannot be loaded.
        CalledProcessError: the compiler failed.
    """
    command = [*shlex.split(os.environ.get("CXX") or "c++"), "-std=c++17", "-O3", "-march=native"]
    command += ["-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC", "-pthread"]
    # A home directory may be shared by machines with other CPUs.
    machine = [platform.machine(), platform.system(), str(torch.cpu.get_capabilities())]
    key = hashlib.sha256(repr([SOURCE.read_text(encoding="utf-8"), command, machine]).encode())
    compiled = user_cache_path("forethought") / f"block-{key.hexdigest()[:16]}.so"
    if not compiled.exists():
        compiled.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=compiled.parent) as folder:
            temporary = Path(folder) / compiled.name
            command += [str(SOURCE), "-o", str(temporary)]
            subprocess.run(command, check=True, capture_output=True, text=True)
            temporary.replace(compiled)
    library = ctypes.CDLL(str(compiled))
    library.kept_size.restype = ctypes.c_int64
    return library
