"""A stack of LSTM layers: the recurrent baseline, with a memory of constant size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import PositiveInt
from torch import Tensor, nn

from forethought.models.base import Conv, Model
from forethought.models.kernels import Embedding
from forethought.models.layers import Context, Layer
from forethought.validation import Layers, validated


class LSTM(Model):
    """A stack of LSTM layers; the hidden states are the outputs of the last layer.

    Embeddings are drawn from N(0, 0.1), the layers' weights from U(±1/sqrt(D)). The forget gates start
    with a bias near 1; without it, the first gradients vanish within a few tokens. The output layer
    shares the token embedding. No norm, no dropout.

    Source: Hochreiter & Schmidhuber, "Long Short-Term LSTMState" (1997), with the forget gate of Gers et al.
    (2000); its bias: Jozefowicz et al., "An Empirical Exploration of Recurrent Network Architectures"
    (2015), §2.2; the shared embedding: Press & Wolf (1608.05859).

    Args:
        width: D, of the embeddings, outputs and cells.
        others: as for `Model`.
    """

    @validated
    def __init__(
        self,
        vocabulary_size: PositiveInt,
        context_length: PositiveInt,
        layers: Layers = 2,
        width: PositiveInt = 128,
        mask: Literal["causal", "prefix", "full"] = "causal",
        conv: Conv = "none",
    ) -> None:
        super().__init__(width, mask, conv, layers)
        self.embedding = Embedding(vocabulary_size, width)
        self.stack = nn.ModuleList(self.new_layer() for _ in range(layers))
        self.norm = nn.Identity()
        nn.init.normal_(self.embedding.weight, std=0.1)

    @property
    def layers(self) -> list[Any]:
        return self.with_convs(self.stack)

    def new_layer(self) -> LSTMLayer:
        return LSTMLayer(self.width)


@dataclass
class LSTMState:
    """Output and cell of a layer after the tokens read so far; None before the first token."""

    state: tuple[Float[Tensor, "1 B D"], Float[Tensor, "1 B D"]] | None = None


class LSTMLayer(nn.LSTM, Layer):
    """One layer of an LSTM."""

    pads = True

    def __init__(self, width: int) -> None:
        super().__init__(width, width, batch_first=True)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw weights from U(±1/sqrt(D)), and set the bias of the forget gates near 1."""
        width = self.hidden_size
        for name, parameter in self.named_parameters():
            nn.init.uniform_(parameter, -(width**-0.5), width**-0.5)
            if "bias_ih" in name:  # bias_hh, which torch adds to it, keeps its random values
                parameter[width : 2 * width] = 1

    def init_cache(self, batch_size: int, length: int) -> LSTMState:
        return LSTMState()

    def forward(  # type: ignore[override]
        self, x: Float[Tensor, "B T D"], context: Context
    ) -> Float[Tensor, "B T D"]:
        # Without AVX-512, oneDNN has no bf16 LSTM: under autocast, nn.LSTM raises "could not create a
        # primitive descriptor". With AVX-512, fp32 is 2.4× slower than bf16, but the numbers do not depend
        # on the CPU. This turns off autocast for the CPU only; on a GPU, autocast casts as usual.
        with torch.autocast("cpu", enabled=False):
            x = x.to(next(self.parameters()).dtype)
            memory = context.cache or LSTMState()
            if context.padding is None:
                hidden, memory.state = super().forward(x, memory.state)
            else:
                hidden, memory.state = self._skip(x, context.padding)
        return hidden

    def _skip(
        self, x: Float[Tensor, "B T D"], padding: Bool[Tensor, "B T"]
    ) -> tuple[Float[Tensor, "B T D"], tuple[Float[Tensor, "1 B D"], Float[Tensor, "1 B D"]]]:
        """Read the rows without the padding before them."""
        count = padding.sum(1)
        place = torch.arange(x.shape[1], device=x.device)
        packed = nn.utils.rnn.pack_padded_sequence(
            shift(x, place + count[:, None]), (x.shape[1] - count).cpu(), True, enforce_sorted=False
        )
        outputs, state = super().forward(packed)
        hidden, _ = nn.utils.rnn.pad_packed_sequence(outputs, True, total_length=x.shape[1])
        return shift(hidden, place - count[:, None]), state


def shift(x: Float[Tensor, "B T D"], source: Int[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
    """Return the rows with their columns taken from `source`, modulo T."""
    return x.gather(1, (source % x.shape[1])[..., None].expand_as(x))
