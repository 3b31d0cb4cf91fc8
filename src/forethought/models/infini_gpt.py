"""A GPT with Infini-attention: causal attention in segments, and a compressed memory of earlier ones."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn

from forethought.errors import Impossible
from forethought.models.base import Conv, Model
from forethought.models.gpt import GPTBlock, initialise, rotary, rotate
from forethought.models.kernels import Embedding
from forethought.models.layers import Context, Layer, causal_mask
from forethought.validation import Layers, validated


@dataclass
class Memory:
    """Memory of one attention, of a size that does not grow with the tokens read.

    `matrix` (M) and `norm` (z) hold the finished segments. `keys` and `values` hold the S tokens of the
    current segment, not yet rotated.
    """

    matrix: Float[Tensor, "B H E E"]
    norm: Float[Tensor, "B H E"]
    keys: Float[Tensor, "B H S E"]
    values: Float[Tensor, "B H S E"]

    def recall(self, queries: Float[Tensor, "B H T E"]) -> Float[Tensor, "B H T E"]:
        """Return σ(Q) M / σ(Q) z, which is zero while the memory is empty."""
        features = positive(queries)
        return features @ self.matrix / (features @ self.norm[..., None]).clamp(min=1e-6)

    def absorb(self, update: str) -> None:
        """Add the current segment to the memory and empty the segment: M += σ(K)ᵀ V, z += Σ σ(K).

        With `delta`, V is first reduced by the values that the memory already recalls for K.
        """
        new = self.values - self.recall(self.keys) if update == "delta" else self.values
        features = positive(self.keys)
        self.matrix = self.matrix + features.transpose(2, 3) @ new
        self.norm = self.norm + features.sum(2)
        self.keys, self.values = self.keys[:, :, :0], self.values[:, :, :0]


class InfiniGPT(Model):
    """A GPT with Infini-attention.

    Attention is causal within segments of S tokens. From earlier segments, each head reads a matrix M and
    a vector z of constant size, mixed in by a learned gate sigmoid(β) that starts at one half,

        A = sigmoid(β) σ(Q) M / σ(Q) z + (1 - sigmoid(β)) softmax(Q Kᵀ / sqrt(E)) V,   σ = ELU + 1

    and after each segment M += σ(K)ᵀ V, z += Σ σ(K). Positions are rotary within a segment; the
    memory has no positions. Initialisation and output layer are GPT's.

    Source: Munkhdalai et al., "Leave No Context Behind: Efficient Infinite Context Transformers with
    Infini-attention" (2404.07143), §2.1.

    Args:
        width: D, an even multiple of `heads`.
        heads: H.
        segment_length: S. In the first segment the memory is empty, so that causal attention alone counts,
            scaled by 1 - sigmoid(β).
        update: of the memory: `linear` as above, or `delta`, which stores V - σ(K) M / σ(K) z for V.
        others: as for `Model`.

    Raises:
        Impossible: `width` is not a multiple of 2 · `heads`.
    """

    @validated
    def __init__(
        self,
        vocabulary_size: PositiveInt,
        context_length: PositiveInt,
        layers: Layers = 3,
        width: PositiveInt = 64,
        heads: PositiveInt = 4,
        segment_length: PositiveInt = 16,
        update: Literal["linear", "delta"] = "linear",
        mask: Literal["causal", "prefix", "full"] = "causal",
        conv: Conv = "none",
    ) -> None:
        super().__init__(width, mask, conv, layers)
        if width % (2 * heads):
            raise Impossible(
                f"model.width={width}: not supported with model.heads={heads}; use a multiple of {2 * heads}"
            )
        self.heads = heads
        self.segment_length = segment_length
        self.update = update
        self.embedding = Embedding(vocabulary_size, width)
        self.blocks = nn.ModuleList(self._block() for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        initialise(self, layers)

    def _block(self) -> GPTBlock:
        return GPTBlock(self.width, InfiniAttention(self.width, self.heads, self.segment_length, self.update))

    @property
    def layers(self) -> list[Any]:
        return self.with_convs(self.blocks)

    def new_layer(self) -> GPTBlock:
        block = self._block()
        initialise(block, len(self.blocks))
        return block


class InfiniAttention(Layer):
    """Causal attention within a segment, mixed head by head with values recalled from the memory."""

    def __init__(self, width: int, heads: int, segment_length: int, update: str) -> None:
        super().__init__()
        self.heads = heads
        self.segment_length = segment_length
        self.update = update
        self.input = nn.Linear(width, 3 * width)
        self.gate = nn.Parameter(torch.zeros(heads))
        self.output = nn.Linear(width, width)

    def init_cache(self, batch_size: int, length: int) -> Memory:
        zeros, size = self.gate.new_zeros, len(self.output.weight) // self.heads
        segment = zeros(batch_size, self.heads, 0, size)
        norm = zeros(batch_size, self.heads, size)
        return Memory(zeros(batch_size, self.heads, size, size), norm, segment, segment)

    def forward(self, x: Float[Tensor, "B T D"], context: Context) -> Float[Tensor, "B T D"]:
        """Attend from each position of `x`, and append `x` to the memory."""
        memory = context.cache or self.init_cache(len(x), x.shape[1])
        q, k, v = self.input(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed, start = [], 0
        while start < x.shape[1]:
            stop = start + self.segment_length - memory.keys.shape[2]
            piece = slice(start, stop)
            mixed.append(self._within(q[:, :, piece], k[:, :, piece], v[:, :, piece], memory))
            start = stop
        return self.output(torch.cat(mixed, 2).transpose(1, 2).flatten(2))

    def _within(
        self,
        q: Float[Tensor, "B H T E"],
        k: Float[Tensor, "B H T E"],
        v: Float[Tensor, "B H T E"],
        memory: Memory,
    ) -> Float[Tensor, "B H T E"]:
        """Attend from T further tokens of the current segment, which end within the segment."""
        past = memory.keys.shape[2]
        memory.keys, memory.values = torch.cat([memory.keys, k], 2), torch.cat([memory.values, v], 2)
        length = memory.keys.shape[2]
        rotation = rotary(torch.arange(length, device=q.device), q.shape[3])
        attention_mask = causal_mask(q.shape[2], past, q.device)
        local = F.scaled_dot_product_attention(
            rotate(q, rotation[:, :, :, past:]),
            rotate(memory.keys, rotation),
            memory.values,
            attn_mask=attention_mask,
        )
        gate = self.gate.sigmoid()[:, None, None]
        mixed = gate * memory.recall(q) + (1 - gate) * local
        if length == self.segment_length:
            memory.absorb(self.update)
        return mixed


def positive(x: Float[Tensor, "B H T E"]) -> Float[Tensor, "B H T E"]:
    """Return σ(x) = ELU(x) + 1, the feature map of linear attention (Katharopoulos et al., 2006.16236)."""
    return F.elu(x) + 1
