"""Layers, of which a model is made: each is called with the hidden states and one context."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


@dataclass
class Context:
    """The facts that a layer knows of T new tokens, beside their hidden states."""

    positions: Int[Tensor, " T"] | Int[Tensor, "B T"]
    """Position of each token."""

    attention_mask: Bool[Tensor, "T S"] | Bool[Tensor, "B T S"] | None = None
    """True where token t sees token s of the S = `past` + T tokens; None: causal, and no cache."""

    padding: Bool[Tensor, "B T"] | None = None
    """True where there is no token; None: nowhere. Nothing may depend on what stands there."""

    past: int = 0
    """Tokens in the cache."""

    by_position: bool = False
    """True if an objective has placed the tokens: neighbours are then found by `positions`."""

    last: int | None = None
    """Only the last L hidden states are wanted. A layer may return all."""

    cache: Any = None
    """State of this layer after the tokens read so far, from its `init_cache`; to be updated in place."""

    rotations: dict[int, Tensor] = field(default_factory=dict)
    """Rotary embeddings by width, shared by all layers of a pass."""

    def of_layer(self, cache: Any, last: int | None) -> Context:
        """Return the context that one layer is called with."""
        return replace(self, cache=cache, last=last)


@dataclass
class Cache:
    """Decoding state of a model after the tokens read so far."""

    layers: list[Any]
    """One entry for each layer that a token passes."""

    room: int
    """Tokens of the longest sequence that it can hold."""

    length: int = 0
    """Tokens read so far."""

    padding: Bool[Tensor, "B S"] | None = None
    """Padding among the tokens read so far."""

    def copy(self) -> Cache:
        """Return a cache of its own, from which other tokens can be read."""
        return replace(self, layers=copy_state(self.layers))


class Layer(nn.Module):
    """One step of the hidden states, such as a block of a Transformer.

    What a layer declares decides which masks and objectives a model of it supports.
    """

    masks: ClassVar[tuple[str, ...]] = ("causal",)
    """The attention masks (`Model`) that the layer can apply."""

    any_order: bool = False
    """True if the layer follows any attention mask, and positions in any order."""

    pads: bool = False
    """True if the layer can skip padding before a sequence."""

    def forward(self, x: Float[Tensor, "B T D"], context: Context) -> Float[Tensor, "B L D"]:
        """Return the hidden states after this layer."""
        raise NotImplementedError

    def init_cache(self, batch_size: int, length: int) -> Any:
        """Return an empty cache for `batch_size` sequences of up to `length` tokens, or None."""
        return None


class AnyLayer(Layer):
    """A layer that treats each token for itself, and so supports everything."""

    masks = ("causal", "prefix", "full")
    any_order = True
    pads = True


class Unchanged(AnyLayer):
    """Returns its input. Objectives that replace the last layer leave such a model whole."""

    def forward(self, x: Float[Tensor, "B T D"], context: Context) -> Float[Tensor, "B T D"]:
        return x


def copy_state(state: Any) -> Any:
    """Return a copy of a layer's cache. Of a view, `copy.deepcopy` would copy all that lies beneath it."""
    if isinstance(state, Tensor):
        return state.clone()
    if type(state) in (list, tuple):
        return type(state)(map(copy_state, state))
    if type(state) is dict:
        return {key: copy_state(value) for key, value in state.items()}
    if is_dataclass(state) and not isinstance(state, type):
        return replace(state, **{part.name: copy_state(getattr(state, part.name)) for part in fields(state)})
    return copy.deepcopy(state)


def causal_mask(length: int, past: int = 0, device: torch.device | str = "cpu") -> Bool[Tensor, "T S"]:
    """Return the mask in which each token sees itself and the tokens before, those in the cache too."""
    return torch.ones(length, past + length, dtype=torch.bool, device=device).tril(past)
