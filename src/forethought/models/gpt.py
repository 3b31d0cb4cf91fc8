"""A decoder-only Transformer, pre-norm, with GPT-2's initialisation."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import PositiveInt
from torch import Tensor, nn

from forethought.errors import Impossible, InputError
from forethought.models.base import Conv, Model, ModelInput
from forethought.models.kernels import Embedding, gelu
from forethought.models.short_conv import Cache, ShortConv
from forethought.validation import Layers, validated


@dataclass
class KVCache(Cache):
    """Keys and values of the tokens read so far."""

    blocks: list[Float[Tensor, "2 B H S E"]]
    """One tensor for each block that a token passes, with room for S tokens."""

    length: int = 0
    """Tokens read so far."""


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

    masks = ("causal", "prefix", "full")

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
        self.embedding = Embedding(vocabulary_size, width)
        self.position = nn.Embedding(context_length, width) if positions == "learned" else None
        self.blocks = nn.ModuleList(GPTBlock(width, Attention(width, heads)) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.initialise(self)

    @property
    def stack(self) -> list[nn.Module]:
        """Blocks in the order in which a token passes them."""
        return list(self.blocks)

    @property
    def last_block(self) -> nn.Module:
        return self.stack[-1]

    def initialise(self, module: nn.Module) -> None:
        initialise(module, len(self.stack))

    def forward(
        self,
        x: ModelInput,
        prompt_length: int = 0,
        cache: KVCache | None = None,
        positions: Int[Tensor, " T"] | Int[Tensor, "B T"] | None = None,
        attention_mask: Bool[Tensor, "T S"] | Bool[Tensor, "B T S"] | None = None,
        myopic: bool = False,
        last: int | None = None,
        trunk: bool = False,
    ) -> Float[Tensor, "B L D"]:
        """Return the hidden states after the last norm, of all L = T positions or of the last L ones.

        Args:
            cache: under the `prefix` mask, the whole prompt must come in the first piece.
            positions: position of each token; by default 0, 1, … after those in the cache.
            attention_mask: True where row t sees column s, in place of the model's own mask.
            myopic: keys and values of other positions carry no gradient (Wu et al., 2404.00859).
            last: L. For the other positions, the last block computes keys and values only.
            trunk: return the input of the last block instead, at all positions; `run_block` continues.
        """
        length, past = x.shape[1], cache.length if cache else 0
        if self.position is not None and positions is None and past + length > self.position.num_embeddings:
            raise InputError(
                f"model.positions=learned: a sequence of {past + length} tokens is longer than the "
                f"{self.position.num_embeddings} learned positions; use a shorter task or "
                "model.positions=rotary"
            )
        hidden = x if x.is_floating_point() else self.embed(x)
        hidden = self.convolve(0, hidden, cache, myopic, positions, attention_mask)
        given = positions, attention_mask
        if positions is None:
            positions = torch.arange(past, past + length, device=x.device)
        rotation = self._rotation(positions)
        if self.position is not None:
            hidden = hidden + self.position(positions)
        if attention_mask is None:
            attention_mask = self._attention_mask(length, past, prompt_length, x.device)
        final = len(self.stack) - 1
        for index, block in enumerate(self.stack):
            if index > 0:
                hidden = self.convolve(index, hidden, cache, myopic, *given)
            if trunk and index == final:
                break
            block_cache = cache.blocks[index][:, :, :, : past + length] if cache else None
            narrow = last if index == final and not myopic else None
            hidden = block(hidden, attention_mask, rotation, block_cache, myopic, last=narrow)
        if cache:
            cache.length += length
        if trunk:
            return hidden
        return self.norm(hidden if last is None else hidden[:, -last:])

    def new_block(self) -> nn.Module:
        block = GPTBlock(self.width, Attention(self.width, self.heads))
        self.initialise(block)
        return block

    def run_block(
        self,
        block: nn.Module,
        hidden: Float[Tensor, "B T D"],
        prompt_length: int = 0,
        last: int | None = None,
    ) -> Float[Tensor, "B L D"]:
        length = hidden.shape[1]
        rotation = self._rotation(torch.arange(length, device=hidden.device))
        attention_mask = self._attention_mask(length, 0, prompt_length, hidden.device)
        return self.norm(block(hidden, attention_mask, rotation, None, last=last))

    def build_attention_mask(
        self, length: int, prompt_length: int, device: torch.device | str = "cpu"
    ) -> Bool[Tensor, "T T"]:
        """Return the model's own mask: row t sees column s where it is True."""
        attention_mask = self._attention_mask(length, 0, prompt_length, torch.device(device))
        if attention_mask is None:
            return torch.ones(length, length, dtype=torch.bool, device=device).tril()
        return attention_mask

    def _rotation(self, positions: Int[Tensor, "*B T"]) -> Float[Tensor, "2 R 1 T E"] | None:
        return rotary(positions, self.width // self.heads) if self.position is None else None

    def _attention_mask(
        self, length: int, past: int, prompt_length: int, device: torch.device
    ) -> Bool[Tensor, "T S"] | None:
        """Return the attention mask, True = visible, with S = past + T.

        None selects the fused kernel's own causal mask, which is faster.
        """
        if self.mask == "full":
            return torch.ones(length, past + length, dtype=torch.bool, device=device)
        if self.mask == "causal" and past == 0:
            return None
        attention_mask = torch.ones(length, past + length, dtype=torch.bool, device=device).tril(past)
        if self.mask == "prefix":
            attention_mask[:, :prompt_length] = True
        return attention_mask

    def init_cache(self, batch_size: int, length: int) -> KVCache:
        """Return an empty key/value cache for `batch_size` sequences of up to `length` tokens."""
        weight = self.embedding.weight
        shape = (2, batch_size, self.heads, length, weight.shape[1] // self.heads)
        return KVCache([weight.new_empty(shape) for _ in self.stack])


class GPTBlock(nn.Module):
    """Attention and a four times wider MLP, each behind a norm and added to the residual stream."""

    def __init__(self, width: int, attention: nn.Module) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = attention
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = MLP(width)

    def forward(self, x: Float[Tensor, "B T D"], *context: Any, **last: int | None) -> Float[Tensor, "B L D"]:
        """Pass the arguments to the attention. With `last=L`, return the last L positions alone."""
        count = last.get("last")
        residual = x if count is None else x[:, -count:]
        residual = residual + self.attention(self.attention_norm(x), *context, **last)
        return residual + self.mlp(self.mlp_norm(residual))


class Attention(nn.Module):
    """Multi-head scaled-dot-product attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.input = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        attention_mask: Bool[Tensor, "T S"] | Bool[Tensor, "B T S"] | None,
        rotation: Float[Tensor, "2 R 1 T E"] | None,
        cache: Float[Tensor, "2 B H S E"] | None,
        myopic: bool = False,
        last: int | None = None,
    ) -> Float[Tensor, "B L D"]:
        if last is not None:
            if attention_mask is None:
                attention_mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()
            attention_mask = attention_mask[..., -last:, :]
        if attention_mask is not None and attention_mask.ndim == 3:
            attention_mask = attention_mask[:, None]
        q, k, v = self._project(x, rotation, last)
        if myopic:
            return self._merge(
                _myopic_attention(q, k, v, *self._project(x.detach(), rotation)[1:], attention_mask)
            )
        if cache is not None:
            cache[0, :, :, -x.shape[1] :], cache[1, :, :, -x.shape[1] :] = k, v
            k, v = cache[0], cache[1]
        return self._merge(attention(q, k, v, attention_mask))

    def _project(
        self,
        x: Float[Tensor, "B T D"],
        rotation: Float[Tensor, "2 R 1 T E"] | None,
        last: int | None = None,
    ) -> tuple[Float[Tensor, "B H L E"], Float[Tensor, "B H T E"], Float[Tensor, "B H T E"]]:
        if last is None:
            q, k, v = map(self._split, self.input(x).chunk(3, 2))
        else:
            width = x.shape[2]
            q = F.linear(x[:, -last:], self.input.weight[:width], self.input.bias[:width])
            kv = F.linear(x, self.input.weight[width:], self.input.bias[width:])
            q, k, v = map(self._split, (q, *kv.chunk(2, 2)))
        if rotation is not None:
            q, k = rotate(q, rotation[..., -q.shape[2] :, :]), rotate(k, rotation)
        return q, k, v

    def _split(self, x: Float[Tensor, "B L D"]) -> Float[Tensor, "B H L E"]:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)

    def _merge(self, mixed: Float[Tensor, "B H T E"]) -> Float[Tensor, "B T D"]:
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


def _myopic_attention(
    q: Float[Tensor, "B H T E"],
    k: Float[Tensor, "B H T E"],
    v: Float[Tensor, "B H T E"],
    past_k: Float[Tensor, "B H T E"],
    past_v: Float[Tensor, "B H T E"],
    attention_mask: Bool[Tensor, "*N T T"] | None,
) -> Float[Tensor, "B H T E"]:
    """Return attention in which only the position's own key and value carry a gradient.

    The values equal those of plain attention: `past_k` and `past_v` equal `k` and `v`, but are computed
    from a detached input.
    """
    scores = q @ past_k.transpose(2, 3) / math.sqrt(q.shape[3])
    scores = scores + torch.diag_embed((q * (k - past_k)).sum(3) / math.sqrt(q.shape[3]))
    if attention_mask is None:
        attention_mask = torch.ones(scores.shape[2:], dtype=torch.bool, device=q.device).tril()
    weights = scores.masked_fill(~attention_mask, -torch.inf).softmax(3)
    return weights @ past_v + weights.diagonal(dim1=2, dim2=3)[..., None] * (v - past_v)


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
