"""A decoder-only Transformer, pre-norm, with GPT-2's initialisation."""

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import PositiveInt
from torch import Tensor, nn

from forethought.errors import Impossible, InputError
from forethought.models import compiled_block
from forethought.models.base import Conv, Model
from forethought.models.kernels import Embedding, gelu
from forethought.models.layers import AnyLayer, Context, Layer, causal_mask
from forethought.models.short_conv import ShortConv
from forethought.validation import Layers, validated


class GPT(Model):
    """A decoder-only Transformer, pre-norm.

    Initialisation is GPT-2's: N(0, 0.02), biases zero, and the two projections that write into the
    residual stream scaled by 1/sqrt(2 * layers). The output layer shares the token embedding.

    Source: Radford et al., "Language Models are Unsupervised Multitask Learners" (2019), §2.3;
    rotary positions: Su et al., "RoFormer" (2104.09864), §3.2.

    Args:
        context_length: the longest sequence T, if positions are learned.
        width: D, a multiple of `heads`.
        heads: H.
        positions: `learned` embeddings added to the input, or `rotary` in every attention.
        others: as for `Model`.

    Raises:
        Impossible: `width` is not a multiple of `heads`, or of 2 · `heads` with rotary positions.
        InputError: `forward` reads more tokens than there are learned positions.
    """

    masks = AnyLayer.masks

    @validated
    def __init__(
        self,
        vocabulary_size: PositiveInt,
        context_length: PositiveInt,
        layers: Layers = 3,
        width: PositiveInt = 64,
        heads: PositiveInt = 4,
        positions: Literal["learned", "rotary"] = "learned",
        mask: Literal["causal", "prefix", "full"] = "causal",
        conv: Conv = "none",
    ) -> None:
        super().__init__(width, mask, conv, layers)
        factor = 2 if positions == "rotary" else 1  # channels are rotated in pairs
        if width % (factor * heads):
            raise Impossible(
                f"model.width={width}: not supported with model.heads={heads} and "
                f"model.positions={positions}; use a multiple of {factor * heads}"
            )
        self.heads = heads
        self.rotary = positions == "rotary"
        self.embedding = Embedding(vocabulary_size, width)
        self.position = None if self.rotary else Positions(context_length, width)
        self.blocks = nn.ModuleList(self._block() for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        initialise(self, len(self.stack))

    def _block(self) -> "GPTBlock":
        return GPTBlock(self.width, Attention(self.width, self.heads, self.rotary))

    @property
    def stack(self) -> list[Any]:
        """Blocks in the order in which a token passes them."""
        return list(self.blocks)

    @property
    def layers(self) -> list[Layer]:
        layers = self.with_convs(self.stack)
        if self.position is not None:
            layers.insert(int(self.conv != "none"), self.position)
        return layers

    def new_layer(self) -> "GPTBlock":
        block = self._block()
        initialise(block, len(self.stack))
        return block


class Positions(nn.Embedding, AnyLayer):
    """Learned embeddings of positions, added to the input."""

    def forward(  # type: ignore[override]
        self, x: Float[Tensor, "B T D"], context: Context
    ) -> Float[Tensor, "B T D"]:
        needed = context.past + x.shape[1]
        if not context.by_position and needed > len(self.weight):
            raise InputError(
                f"model.positions=learned: a sequence of {needed} tokens is longer than the "
                f"{len(self.weight)} learned positions; use a shorter task or model.positions=rotary"
            )
        return x + F.embedding(context.positions, self.weight)


class GPTBlock(Layer):
    """Attention and a four times wider MLP, each behind a norm and added to the residual stream."""

    threads = 0
    """Threads of the block in C++ (`compiled_block`); 0: PyTorch's operations compute it."""

    def __init__(self, width: int, attention: Layer) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = attention
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = MLP(width)
        self.any_order, self.pads = attention.any_order, attention.pads

    def forward(self, x: Float[Tensor, "B T D"], context: Context) -> Float[Tensor, "B L D"]:
        if self.threads and compiled_block.can_compute(self, x, context):
            return compiled_block.compute(self, x, context)
        mixed = self.attention(self.attention_norm(x), context)
        residual = x[:, -mixed.shape[1] :] + mixed
        return residual + self.mlp(self.mlp_norm(residual))

    def init_cache(self, batch_size: int, length: int) -> Any:
        return self.attention.init_cache(batch_size, length)

    @property
    def compilable(self) -> bool:
        """True if the block in C++ (`compiled_block`) can take its place, and gains by it."""
        attention = self.attention
        plain = type(self) is GPTBlock and type(attention) is Attention and type(self.mlp) is MLP
        return plain and not attention.rotary and compiled_block.supports(self)


class Attention(Layer):
    """Multi-head scaled-dot-product attention; its cache holds keys and values, "2 B H S E"."""

    masks = AnyLayer.masks
    any_order = True
    pads = True

    def __init__(self, width: int, heads: int, rotary: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.rotary = rotary
        self.input = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def init_cache(self, batch_size: int, length: int) -> Float[Tensor, "2 B H S E"]:
        weight = self.output.weight
        return weight.new_empty(2, batch_size, self.heads, length, len(weight) // self.heads)

    def forward(self, x: Float[Tensor, "B T D"], context: Context) -> Float[Tensor, "B L D"]:
        q, k, v = self.project(x, context)
        if context.cache is not None:
            end = context.past + x.shape[1]
            context.cache[0, :, :, context.past : end], context.cache[1, :, :, context.past : end] = k, v
            k, v = context.cache[:, :, :, :end]
        return self.merge(self.attend(q, k, v, self._mask(x, context)))

    def attention_weights(self, x: Float[Tensor, "B T D"], context: Context) -> Float[Tensor, "B H L T"]:
        """Return the weights of the last L tokens, which the fused kernel does not return; no cache."""
        q, k, _ = self.project(x, context)
        attention_mask = self._mask(x, context)
        if attention_mask is None:
            attention_mask = causal_mask(x.shape[1], device=x.device)
        scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[3])
        return scores.masked_fill(~attention_mask, -torch.inf).softmax(3)

    @staticmethod
    def _mask(x: Float[Tensor, "B T D"], context: Context) -> Bool[Tensor, "*N L S"] | None:
        """Return the mask of the last L tokens for all heads. None is the causal mask."""
        attention_mask = context.attention_mask
        if context.last is not None and context.last < x.shape[1]:
            if attention_mask is None:
                attention_mask = causal_mask(x.shape[1], device=x.device)
            attention_mask = attention_mask[..., -context.last :, :]
        if attention_mask is not None and attention_mask.ndim == 3:
            attention_mask = attention_mask[:, None]
        return attention_mask

    def attend(
        self,
        q: Float[Tensor, "B H L E"],
        k: Float[Tensor, "B H S E"],
        v: Float[Tensor, "B H S E"],
        attention_mask: Bool[Tensor, "*N L S"] | None,
    ) -> Float[Tensor, "B H L E"]:
        return attention(q, k, v, attention_mask)

    def project(
        self, x: Float[Tensor, "B T D"], context: Context
    ) -> tuple[Float[Tensor, "B H L E"], Float[Tensor, "B H T E"], Float[Tensor, "B H T E"]]:
        """Return the queries of the last L tokens, and the keys and values of all."""
        last = context.last
        if last is None or last >= x.shape[1]:
            q, k, v = map(self._split, self.input(x).chunk(3, 2))
        else:
            width = x.shape[2]
            q = F.linear(x[:, -last:], self.input.weight[:width], self.input.bias[:width])
            kv = F.linear(x, self.input.weight[width:], self.input.bias[width:])
            q, k, v = map(self._split, (q, *kv.chunk(2, 2)))
        if self.rotary:
            rotation = self._rotation(context, q.shape[3])
            q, k = rotate(q, rotation[..., -q.shape[2] :, :]), rotate(k, rotation)
        return q, k, v

    @staticmethod
    def _rotation(context: Context, width: int) -> Float[Tensor, "2 R 1 T E"]:
        if width not in context.rotations:
            context.rotations[width] = rotary(context.positions, width)
        return context.rotations[width]

    def _split(self, x: Float[Tensor, "B L D"]) -> Float[Tensor, "B H L E"]:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)

    def merge(self, mixed: Float[Tensor, "B H L E"]) -> Float[Tensor, "B L D"]:
        """Return the output of the layer from that of each head."""
        return self.output(mixed.transpose(1, 2).flatten(2))


def attention(
    q: Float[Tensor, "B H L E"],
    k: Float[Tensor, "B H S E"],
    v: Float[Tensor, "B H S E"],
    attention_mask: Bool[Tensor, "*N L S"] | None,
) -> Float[Tensor, "B H L E"]:
    """Return the scaled dot-product attention. None is the causal mask."""
    if q.device.type != "cpu" or q.dtype != torch.bfloat16:
        return F.scaled_dot_product_attention(
            q, k, v, attn_mask=attention_mask, is_causal=attention_mask is None
        )
    # On a CPU, the fused kernel is about 3× slower in bf16 (docs/PERFORMANCE.md).
    if attention_mask is None:
        attention_mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril()
    # baddbmm adds the mask to the product: a masked_fill afterwards takes as long as the softmax.
    bias = torch.zeros(attention_mask.shape, dtype=q.dtype).masked_fill(~attention_mask, -torch.inf)
    bias = bias.expand(*q.shape[:2], *attention_mask.shape[-2:])
    queries, keys, values = (tensor.flatten(0, 1) for tensor in (q, k, v))
    scale = 1 / math.sqrt(q.shape[3])
    scores = torch.baddbmm(bias.flatten(0, 1), queries, keys.transpose(1, 2), alpha=scale)
    return (scores.softmax(2) @ values).view(q.shape)


class MLP(nn.Module):
    """Two linear layers with a GELU between, four times wider inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.input = nn.Linear(width, 4 * width)
        self.output = nn.Linear(4 * width, width)

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        return self.output(gelu(self.input(x)))


def initialise(module: nn.Module, depth: int) -> None:
    """Draw GPT-2's initial weights for a module of a model in which a token passes `depth` blocks."""
    for part in module.modules():
        if isinstance(part, ShortConv):
            part.reset_parameters()
    for name, parameter in module.named_parameters():
        if parameter.ndim == 2:
            residual = name.endswith(("attention.output.weight", "mlp.output.weight"))
            nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * depth) if residual else 0.02)
        elif name.endswith(("bias", "gate")):
            nn.init.zeros_(parameter)


def rotary(positions: Int[Tensor, " T"] | Int[Tensor, "B T"], width: int) -> Float[Tensor, "2 R 1 T E"]:
    """Return cosine and sine of each position's angle, per channel (E = width; both halves are equal)."""
    frequency = 10000 ** (-torch.arange(0, width, 2, device=positions.device) / width)
    angle = torch.atleast_2d(positions)[:, None, :, None] * frequency.repeat(2)
    return torch.stack([angle.cos(), angle.sin()])


def rotate(x: Float[Tensor, "B H T E"], rotation: Float[Tensor, "2 R 1 T E"]) -> Float[Tensor, "B H T E"]:
    """Rotate channel i against channel i + E/2 by the position's angle."""
    cosine, sine = rotation.to(x.dtype)
    first, second = x.chunk(2, dim=3)
    return x * cosine + torch.cat([-second, first], 3) * sine
