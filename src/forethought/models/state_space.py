"""What Mamba and Mamba-2 share: the model around the mixers, its state, and the way to CUDA kernels."""

from __future__ import annotations

import math
import pkgutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from forethought.errors import Impossible, InputError
from forethought.models.kernels import Embedding

Backend = Literal["auto", "torch", "mamba_ssm"]


@dataclass
class MixerCache:
    """What one mixer keeps of the tokens read so far."""

    window: Float[Tensor, "B W C"]
    """The convolution's last W = conv_width - 1 inputs."""

    ssm: Float[Tensor, "B ..."]
    """The recurrent state."""


@dataclass
class MambaCache:
    """One state for each mixer; its size does not grow with the tokens read."""

    mixers: list[MixerCache]


class StateSpaceModel(nn.Module):
    """Token ids or embeddings in, hidden states out: an embedding, blocks of norm and mixer, a last norm.

    Modules and parameters are named, ordered and initialised as in mamba-ssm's `MambaLMHeadModel` with
    `rms_norm=True` and `pad_vocab_size_multiple=1`, so that its state dicts load here and ours there.

    Source: Gu & Dao, "Mamba" (2312.00752), §3.4; the package mamba-ssm.

    Args:
        vocabulary_size: V.
        layers: number of blocks.
        width: D.
        new_mixer: makes the mixer of one block.
        mask: a recurrence can only be `causal`.

    Raises:
        Impossible: another mask.
    """

    masks = ("causal",)

    def __init__(
        self,
        vocabulary_size: int,
        layers: int,
        width: int,
        new_mixer: Callable[[], nn.Module],
        mask: str,
    ) -> None:
        super().__init__()
        if mask != "causal":
            raise Impossible(f"model.mask={mask}: Mamba reads from left to right; expected causal")
        self.mask = mask
        self.width = width
        self.new_mixer = new_mixer
        self.backbone = Backbone(
            vocabulary_size, width, [MambaBlock(width, new_mixer()) for _ in range(layers)]
        )
        self.lm_head = nn.Linear(width, vocabulary_size, bias=False)
        self.embedding = self.backbone.embedding
        self.initialise(self)

    @property
    def embedding(self) -> nn.Embedding:
        """The token embedding; the output layer shares its weight, also with another one set in its place."""
        return self.backbone.embedding

    @embedding.setter
    def embedding(self, embedding: nn.Embedding) -> None:
        self.backbone.embedding = embedding
        self.lm_head.weight = embedding.weight

    def __setattr__(self, name: str, value: Any) -> None:
        # nn.Module would register a module under the property's own name, past its setter.
        if name == "embedding":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def initialise(self, module: nn.Module) -> None:
        """Draw new weights for all of the model, or for one more block of it.

        N(0, 0.02) for the embedding, 1/sqrt(layers) on what writes into the residual stream, the mixers'
        own rules, and PyTorch's defaults elsewhere.
        """
        part: Any
        for part in reversed(list(module.modules())):  # a mixer after its layers, the embedding after lm_head
            if isinstance(part, nn.Embedding):
                nn.init.normal_(part.weight, std=0.02)
            elif hasattr(part, "reset_parameters"):
                part.reset_parameters()
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                if name.endswith("out_proj.weight"):
                    parameter.div_(math.sqrt(len(self.backbone.layers)))

    def forward(
        self,
        x: Int[Tensor, "B T"] | Float[Tensor, "B T D"],
        prompt_length: int = 0,
        cache: MambaCache | None = None,
        trunk: bool = False,
    ) -> Float[Tensor, "B T D"]:
        """Hidden states after the last norm.

        Args:
            x: token ids, or embeddings (`embed`) where an objective builds its own input.
            prompt_length: without a meaning here.
            cache: from `init_cache`; `x` then continues the sequence in the cache, in pieces of any
                length.
            trunk: instead, what enters the last block; `run_block` does the rest.
        """
        hidden = x if x.is_floating_point() else self.embed(x)
        for index, block in enumerate(self.backbone.layers[: len(self.backbone.layers) - trunk]):
            hidden = block(hidden, cache.mixers[index] if cache else None)
        return hidden if trunk else self.backbone.norm_f(hidden)

    @property
    def last_block(self) -> nn.Module:
        return self.backbone.layers[-1]

    def embed(self, tokens: Int[Tensor, "*N"]) -> Float[Tensor, "*N D"]:
        return self.embedding(tokens)

    def logits(self, hidden: Float[Tensor, "*N D"]) -> Float[Tensor, "*N V"]:
        return self.lm_head(hidden)

    def new_block(self) -> nn.Module:
        """One more block of this architecture, freshly initialised, for an objective's own heads."""
        block = MambaBlock(self.width, self.new_mixer())
        self.initialise(block)
        return block

    def run_block(
        self, block: nn.Module, hidden: Float[Tensor, "B T D"], prompt_length: int = 0
    ) -> Float[Tensor, "B T D"]:
        """A block, the last one or one of `new_block`; then the last norm."""
        return self.backbone.norm_f(block(hidden))

    def init_cache(self, batch_size: int, length: int) -> MambaCache:
        """The state before the first token of `batch_size` sequences of any length."""
        blocks: Any = self.backbone.layers
        return MambaCache([block.mixer.init_cache(batch_size) for block in blocks])


class Backbone(nn.Module):
    """Holds the modules under mamba-ssm's names."""

    def __init__(self, vocabulary_size: int, width: int, blocks: list[MambaBlock]) -> None:
        super().__init__()
        self.embedding: nn.Embedding = Embedding(vocabulary_size, width)
        self.layers = nn.ModuleList(blocks)
        self.norm_f = nn.RMSNorm(width, eps=1e-5)


class MambaBlock(nn.Module):
    """A mixer behind a norm and around the residual stream."""

    def __init__(self, width: int, mixer: nn.Module) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width, eps=1e-5)
        self.mixer = mixer

    def forward(self, x: Float[Tensor, "B T D"], cache: MixerCache | None = None) -> Float[Tensor, "B T D"]:
        return x + self.mixer(self.norm(x), cache)


def causal_conv(
    conv: nn.Conv1d, x: Float[Tensor, "B T C"], window: Float[Tensor, "B W C"] | None
) -> tuple[Float[Tensor, "B T C"], Float[Tensor, "B W C"]]:
    """The depthwise convolution of x over its own and the W tokens before, and the window for the next."""
    padded = F.pad(x, (0, 0, conv.kernel_size[0] - 1, 0)) if window is None else torch.cat([window, x], 1)
    # As an image one pixel high with its channels last, which spares transposing T and C.
    image = padded.mT[:, :, None]
    mixed = F.conv2d(image, conv.weight[:, :, None], conv.bias, groups=conv.groups)[:, :, 0].mT
    return mixed, padded[:, x.shape[1] :]


def full_precision(x: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
    """At least fp32: sums over many steps lose too much in bf16."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


@torch.no_grad()
def reset_step_bias(bias: nn.Parameter) -> None:
    """Biases whose softplus is log-uniform in [1e-3, 1e-1] (Gu & Dao, §3.6)."""
    nn.init.uniform_(bias, math.log(1e-3), math.log(1e-1))
    step = bias.exp()
    bias.copy_(step + torch.log(-torch.expm1(-step)))  # the inverse of softplus


def require_backend(backend: Backend, name: str) -> None:
    """
    Raises:
        InputError: `mamba_ssm` is asked for and its kernel `name` cannot be imported.
    """
    if backend == "mamba_ssm" and isinstance(found := load_kernel(name), str):
        raise InputError(f"model.backend=mamba_ssm: cannot be imported ({found}); expected auto or torch")


def kernel_for(x: Tensor, backend: Backend, name: str) -> Callable[..., Any] | None:
    """mamba-ssm's kernel `name` where `backend` and the tensor allow; None asks for plain PyTorch.

    Raises:
        InputError: `mamba_ssm` is asked for on another device than CUDA, or in float64.
    """
    fits = x.is_cuda and x.dtype != torch.float64
    if backend == "mamba_ssm" and not fits:
        raise InputError(
            f"model.backend=mamba_ssm: its kernels run on cuda in float32, not on {x.device.type} in "
            f"{str(x.dtype).removeprefix('torch.')}; expected auto or torch"
        )
    if backend == "torch" or not fits:
        return None
    found = load_kernel(name)
    if isinstance(found, str):
        warn_once(f"Mamba runs in plain PyTorch on this GPU: mamba-ssm cannot be imported ({found})")
        return None
    return found


@lru_cache
def load_kernel(name: str) -> Callable[..., Any] | str:
    """The function `package.module:function`, or why there is none."""
    try:
        found: Callable[..., Any] = pkgutil.resolve_name(name)
    except (ImportError, AttributeError, OSError, RuntimeError) as error:  # Triton without a driver: Runtime
        return str(error).partition("\n")[0]
    return found


@lru_cache
def warn_once(message: str) -> None:
    warnings.warn(message, stacklevel=2)
