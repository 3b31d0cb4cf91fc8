"""Shared parts of Mamba and Mamba-2: the model around the mixers, its cache, and the CUDA kernels."""

from __future__ import annotations

import math
import pkgutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from forethought.errors import InputError
from forethought.models.base import Conv, Model, ModelInput, OutputLayer
from forethought.models.kernels import Embedding
from forethought.models.short_conv import Cache

Backend = Literal["auto", "torch", "mamba_ssm"]


@dataclass
class MixerCache:
    """Window and recurrent state of one mixer after the tokens read so far."""

    window: Float[Tensor, "B W C"]
    """Last W = conv_width - 1 inputs of the convolution."""

    ssm: Float[Tensor, "B ..."]
    """Recurrent state."""


@dataclass
class MambaCache(Cache):
    """One cache for each mixer, of a size that does not grow with the tokens read."""

    mixers: list[MixerCache]


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
        self.backbone = Backbone(
            vocabulary_size, width, [MambaBlock(width, new_mixer()) for _ in range(layers)]
        )
        self.lm_head = OutputLayer(width, vocabulary_size, bias=False)
        self.embedding = self.backbone.embedding
        self.initialise(self)

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

    def initialise(self, module: nn.Module) -> None:
        """Draw new weights for the whole model or for one more block.

        N(0, 0.02) for the embedding, a factor of 1/sqrt(layers) for projections into the residual stream,
        the mixers' own rules, and PyTorch's defaults for all other weights.
        """
        part: Any
        for part in reversed(list(module.modules())):  # mixers after their layers, embedding after lm_head
            if isinstance(part, nn.Embedding):
                nn.init.normal_(part.weight, std=0.02)
            elif hasattr(part, "reset_parameters"):
                part.reset_parameters()
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                if name.endswith("out_proj.weight"):
                    parameter.div_(math.sqrt(len(self.backbone.layers)))

    def forward(
        self, x: ModelInput, prompt_length: int = 0, cache: MambaCache | None = None, trunk: bool = False
    ) -> Float[Tensor, "B T D"]:
        hidden = x if x.is_floating_point() else self.embed(x)
        for index, block in enumerate(self.backbone.layers):
            hidden = self.convolve(index, hidden, cache)
            if trunk and block is self.last_block:
                return hidden
            hidden = block(hidden, cache.mixers[index] if cache else None)
        return self.backbone.norm_f(hidden)

    @property
    def last_block(self) -> nn.Module:
        return self.backbone.layers[-1]

    def new_block(self) -> nn.Module:
        block = MambaBlock(self.width, self.new_mixer())
        self.initialise(block)
        return block

    def run_block(
        self, block: nn.Module, hidden: Float[Tensor, "B T D"], prompt_length: int = 0
    ) -> Float[Tensor, "B T D"]:
        return self.backbone.norm_f(block(hidden))

    def init_cache(self, batch_size: int, length: int) -> MambaCache:
        """Return empty windows and zero states for `batch_size` sequences of any length."""
        blocks: Any = self.backbone.layers
        return MambaCache([block.mixer.init_cache(batch_size) for block in blocks])


class Backbone(nn.Module):
    """Modules of the model under mamba-ssm's names."""

    def __init__(self, vocabulary_size: int, width: int, blocks: list[MambaBlock]) -> None:
        super().__init__()
        self.embedding: nn.Embedding = Embedding(vocabulary_size, width)
        self.layers = nn.ModuleList(blocks)
        self.norm_f = nn.RMSNorm(width, eps=1e-5)


class MambaBlock(nn.Module):
    """A mixer behind a norm, added to the residual stream."""

    def __init__(self, width: int, mixer: nn.Module) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width, eps=1e-5)
        self.mixer = mixer

    def forward(self, x: Float[Tensor, "B T D"], cache: MixerCache | None = None) -> Float[Tensor, "B T D"]:
        return x + self.mixer(self.norm(x), cache)


def full_precision(x: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
    """Convert to at least fp32: sums over many steps lose too much in bf16."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


@torch.no_grad()
def reset_step_bias(bias: nn.Parameter) -> None:
    """Draw biases whose softplus is log-uniform in [1e-3, 1e-1] (Gu & Dao, §3.6)."""
    nn.init.uniform_(bias, math.log(1e-3), math.log(1e-1))
    step = bias.exp()
    bias.copy_(step + torch.log(-torch.expm1(-step)))  # the inverse of softplus


def require_backend(backend: Backend, name: str) -> None:
    """Raise InputError if `backend` is `mamba_ssm` and its kernel `name` cannot be imported."""
    if backend == "mamba_ssm" and isinstance(kernel := load_kernel(name), str):
        raise InputError(f"model.backend=mamba_ssm: cannot be imported ({kernel}); use auto or torch")


def kernel_for(x: Tensor, backend: Backend, name: str) -> Callable[..., Any] | None:
    """Return mamba-ssm's kernel `name` if `backend` and the tensor allow it; None selects plain PyTorch.

    Raises:
        InputError: `backend` is `mamba_ssm`, and the tensor is not on CUDA or is float64.
    """
    fits = x.is_cuda and x.dtype != torch.float64
    if backend == "mamba_ssm" and not fits:
        raise InputError(
            f"model.backend=mamba_ssm: not supported on {x.device.type} in "
            f"{str(x.dtype).removeprefix('torch.')}, only on cuda in float32; use auto or torch"
        )
    if backend == "torch" or not fits:
        return None
    kernel = load_kernel(name)
    if isinstance(kernel, str):
        warn_once(f"Mamba runs in plain PyTorch on this GPU: mamba-ssm cannot be imported ({kernel})")
        return None
    return kernel


@lru_cache
def load_kernel(name: str) -> Callable[..., Any] | str:
    """Import the function `package.module:function`; if that fails, return the reason."""
    try:
        kernel: Callable[..., Any] = pkgutil.resolve_name(name)
    except (ImportError, AttributeError, OSError, RuntimeError) as error:
        # RuntimeError: Triton without a driver.
        return str(error).partition("\n")[0]
    return kernel


@lru_cache
def warn_once(message: str) -> None:
    """Issue a warning, once for each message."""
    warnings.warn(message, stacklevel=2)
