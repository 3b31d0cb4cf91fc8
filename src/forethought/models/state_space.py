"""Shared parts of Mamba and Mamba-2: the model around the mixers, its cache, and the CUDA kernels."""

from __future__ import annotations

import importlib.util
import math
import pkgutil
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from forethought.errors import InputError, first_line
from forethought.models.base import Conv, Model, OutputLayer
from forethought.models.kernels import Embedding
from forethought.models.layers import Context, Layer

Backend = Literal["auto", "torch", "mamba_ssm"]


@dataclass
class MixerCache:
    """Window and recurrent state of one mixer after the tokens read so far."""

    window: Float[Tensor, "B W C"]
    """Last W = conv_width - 1 inputs of the convolution."""

    ssm: Float[Tensor, "B ..."]
    """Recurrent state."""


class StateSpaceModel(Model):
    """An embedding, blocks of norm and mixer, and a last norm.

    Modules and parameters are named, ordered and initialised as in mamba-ssm's `MambaLMHeadModel` with
    `rms_norm=True` and `pad_vocab_size_multiple=1`. State dicts load in both directions.

    Source: Gu & Dao, "Mamba" (2312.00752), §3.4; the package mamba-ssm.

    Args:
        new_mixer: returns a new mixer for one block.
        others: as for `Model`.
    """

    def __init__(
        self,
        vocabulary_size: int,
        layers: int,
        width: int,
        new_mixer: Callable[[], nn.Module],
        mask: str,
        conv: Conv,
    ) -> None:
        super().__init__(width, mask, conv, layers)
        self.new_mixer = new_mixer
        blocks = [MambaBlock(width, new_mixer(), layers) for _ in range(layers)]
        self.backbone = Backbone(vocabulary_size, width, blocks)
        self.lm_head = OutputLayer(width, vocabulary_size, bias=False)
        self.embedding = self.backbone.embedding

    @property
    def embedding(self) -> nn.Embedding:
        """The token embedding. Setting another one also gives its weight to the output layer."""
        return self.backbone.embedding

    @embedding.setter
    def embedding(self, embedding: nn.Embedding) -> None:
        self.backbone.embedding = embedding
        self.lm_head.weight = embedding.weight

    def __setattr__(self, name: str, value: Any) -> None:
        # nn.Module.__setattr__ would register the module as "embedding" and skip the property's setter.
        if name == "embedding":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    @property
    def norm(self) -> nn.Module:  # type: ignore[override]
        return self.backbone.norm_f

    @property
    def layers(self) -> list[Any]:
        return self.with_convs(self.backbone.layers)

    def new_layer(self) -> MambaBlock:
        return MambaBlock(self.width, self.new_mixer(), len(self.backbone.layers))


class Backbone(nn.Module):
    """Modules of the model under mamba-ssm's names."""

    def __init__(self, vocabulary_size: int, width: int, blocks: list[MambaBlock]) -> None:
        super().__init__()
        self.embedding: nn.Embedding = Embedding(vocabulary_size, width)
        self.layers = nn.ModuleList(blocks)
        self.norm_f = nn.RMSNorm(width, eps=1e-5)
        nn.init.normal_(self.embedding.weight, std=0.02)


class MambaBlock(Layer):
    """A mixer behind a norm, added to the residual stream.

    Args:
        depth: blocks of the model; the projection into the residual stream is scaled by 1/sqrt(depth).
    """

    pads = True

    def __init__(self, width: int, mixer: Any, depth: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width, eps=1e-5)
        self.mixer = mixer
        mixer.reset_parameters()
        with torch.no_grad():
            mixer.out_proj.weight.div_(math.sqrt(depth))

    def init_cache(self, batch_size: int, length: int) -> MixerCache:
        cache: MixerCache = self.mixer.init_cache(batch_size)
        return cache

    def forward(self, x: Float[Tensor, "B T D"], context: Context) -> Float[Tensor, "B T D"]:
        return x + self.mixer(self.norm(x), context.cache, context.padding)


def skip(x: Float[Tensor, "B T N"], padding: Bool[Tensor, "B T"] | None) -> Float[Tensor, "B T N"]:
    """Return x with zeros at the padding."""
    return x if padding is None else x.masked_fill(padding[..., None], 0)


def full_precision(x: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
    """Convert to at least fp32: sums over many steps lose too much in bf16."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


@torch.no_grad()
def reset_step_bias(bias: nn.Parameter) -> None:
    """Draw biases whose softplus is log-uniform in [1e-3, 1e-1] (Gu & Dao, §3.6)."""
    nn.init.uniform_(bias, math.log(1e-3), math.log(1e-1))
    step = bias.exp()
    bias.copy_(step + torch.log(-torch.expm1(-step)))  # the inverse of softplus


@dataclass(frozen=True)
class Kernel:
    """A function of mamba-ssm, and how our mixers call it."""

    name: str
    """`package.module:function`."""

    call: Callable[..., Tensor]
    """Called as `call(function, *inputs, *options)`, with the inputs of our own scan."""

    least_length: int = 0
    """Length of rows from which it is faster than plain PyTorch, as measured (docs/PERFORMANCE.md)."""


Function = Callable[..., Any]

FUNCTIONS: dict[tuple[str, torch.device], Function | str] = {}
"""For each kernel and device, the function, or the reason why it cannot be called."""


def require_backend(backend: Backend, kernel: Kernel) -> None:
    """Raise InputError if `backend` is `mamba_ssm` and the kernel cannot be imported."""
    if backend == "mamba_ssm":
        try:
            import_function(kernel.name)
        except Exception as error:
            raise InputError(
                f"model.backend=mamba_ssm: cannot be imported ({first_line(error)}); use auto or torch"
            ) from None


def run_kernel(kernel: Kernel, backend: Backend, inputs: Sequence[Tensor], *options: int) -> Tensor | None:
    """Return the output of mamba-ssm's kernel, or None: then plain PyTorch has to compute it.

    `auto` calls no kernel for rows so short that plain PyTorch is faster.

    Raises:
        InputError: `backend` is `mamba_ssm`, and the kernel does not support the tensors or cannot be called.
    """
    x = inputs[0]
    fits = x.is_cuda and x.dtype != torch.float64
    if backend == "mamba_ssm" and not fits:
        raise InputError(
            f"model.backend=mamba_ssm: not supported on {x.device.type} in "
            f"{str(x.dtype).removeprefix('torch.')}, only on cuda in float32; use auto or torch"
        )
    if backend == "torch" or not fits or (backend == "auto" and x.shape[1] < kernel.least_length):
        return None
    function = callable_function(kernel, inputs, *options)
    if not isinstance(function, str):
        return kernel.call(function, *inputs, *options)
    if backend == "mamba_ssm":
        raise InputError(f"model.backend=mamba_ssm: cannot be called ({function}); use auto or torch")
    warn_once(f"Mamba runs in plain PyTorch on this GPU: mamba-ssm cannot be called ({function})")
    return None


@torch.compiler.disable
def callable_function(kernel: Kernel, inputs: Sequence[Tensor], *options: int) -> Function | str:
    """Return the kernel's function, or the reason why it cannot be called on this device.

    An import proves little: CUDA code may be missing, or built for another GPU, and only the call says so.
    So the first time, the function runs forward and backward on zeros of the shapes of `inputs`. These are
    the shapes for which Triton tunes its block sizes anyway.
    """
    key = kernel.name, inputs[0].device
    if key not in FUNCTIONS:
        try:
            function = import_function(kernel.name)
            with torch.inference_mode(False), torch.enable_grad():
                zeros = [torch.zeros_like(tensor).requires_grad_() for tensor in inputs]
                torch.autograd.grad(kernel.call(function, *zeros, *options).sum(), zeros)
        except torch.OutOfMemoryError:  # says nothing about the kernel
            raise
        except Exception as error:
            FUNCTIONS[key] = first_line(error)
        else:
            FUNCTIONS[key] = function
    return FUNCTIONS[key]


def import_function(name: str) -> Function:
    """Import `package.module:function`, past the package's own `__init__` if that fails.

    mamba-ssm's `__init__` imports all of its kernels, and fails if one is missing that is not called here.
    """
    try:
        function: Function = pkgutil.resolve_name(name)
        return function
    except Exception:
        package = name.partition(".")[0]
        spec = importlib.util.find_spec(package)
        if spec is None:
            raise
        sys.modules[package] = importlib.util.module_from_spec(spec)  # not executed
        try:
            function = pkgutil.resolve_name(name)
            return function
        finally:
            del sys.modules[package]


@lru_cache
def warn_once(message: str) -> None:
    """Issue a warning, once for each message."""
    warnings.warn(message, stacklevel=2)
