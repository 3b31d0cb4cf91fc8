"""A stack of LSTM layers: the recurrent baseline, with a memory of constant size."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn

from forethought.models.base import Model, ModelInput
from forethought.models.kernels import Embedding
from forethought.models.short_conv import Cache
from forethought.validation import Layers, validated


@dataclass
class LSTMCache(Cache):
    """Output and cell of every layer after the tokens read so far."""

    memory: tuple[Float[Tensor, "L B D"], Float[Tensor, "L B D"]]


class LSTM(Model):
    """A stack of LSTM layers; the hidden states are the outputs of the last layer.

    Embeddings are drawn from N(0, 0.1), the layers' weights from U(±1/sqrt(D)). The forget gates start
    with a bias near 1; without it, the first gradients vanish within a few tokens. The output layer
    shares the token embedding. No norm, no dropout.

    Source: Hochreiter & Schmidhuber, "Long Short-Term Memory" (1997), with the forget gate of Gers et al.
    (2000); its bias: Jozefowicz et al., "An Empirical Exploration of Recurrent Network Architectures"
    (2015), §2.2; the shared embedding: Press & Wolf (1608.05859).

    Args:
        width: D, of the embeddings, outputs and cells.
        conv: `blocks` is not supported: the layers are one kernel.
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
        conv: Literal["none", "input"] = "none",
    ) -> None:
        super().__init__(width, mask, conv)
        self.embedding = Embedding(vocabulary_size, width)
        self.lstm = nn.LSTM(width, width, layers, batch_first=True)
        self.initialise(self)

    @torch.no_grad()
    def initialise(self, module: nn.Module) -> None:
        """Draw new weights for the whole model or for one more layer."""
        for name, parameter in module.named_parameters():
            if name == "embedding.weight":
                nn.init.normal_(parameter, std=0.1)
                continue
            if name.startswith("convs"):
                nn.init.normal_(parameter, std=0.3)
                continue
            nn.init.uniform_(parameter, -(self.width**-0.5), self.width**-0.5)
            if "bias_ih" in name:  # bias_hh, which torch adds to it, keeps its random values
                parameter[self.width : 2 * self.width] = 1

    def forward(
        self, x: ModelInput, prompt_length: int = 0, cache: LSTMCache | None = None
    ) -> Float[Tensor, "B T D"]:
        embedded = x if x.is_floating_point() else self.embed(x)
        hidden, memory = run_lstm(
            self.lstm, self.convolve(0, embedded, cache), cache.memory if cache else None
        )
        if cache:
            cache.memory = memory
        return hidden

    def new_block(self) -> nn.Module:
        layer = nn.LSTM(self.width, self.width, batch_first=True)
        self.initialise(layer)
        return layer

    def run_block(
        self, block: nn.Module, hidden: Float[Tensor, "B T D"], prompt_length: int = 0
    ) -> Float[Tensor, "B T D"]:
        """Return the outputs of a layer from `new_block`, which reads the outputs of the last layer."""
        return run_lstm(block, hidden)[0]

    def init_cache(self, batch_size: int, length: int) -> LSTMCache:
        """Return zero outputs and cells for `batch_size` sequences of any length."""
        zeros = self.embedding.weight.new_zeros(self.lstm.num_layers, batch_size, self.width)
        return LSTMCache((zeros, zeros))


def run_lstm(
    lstm: Any,
    x: Float[Tensor, "B T D"],
    memory: tuple[Float[Tensor, "L B D"], Float[Tensor, "L B D"]] | None = None,
) -> tuple[Float[Tensor, "B T D"], tuple[Float[Tensor, "L B D"], Float[Tensor, "L B D"]]]:
    """Run LSTM layers, on a CPU in the precision of their weights."""
    # Without AVX-512, oneDNN has no bf16 LSTM: under autocast, nn.LSTM raises "could not create a primitive
    # descriptor". With AVX-512, fp32 is 2.4× slower than bf16, but the numbers do not depend on the CPU.
    # This turns off autocast for the CPU only; on a GPU, autocast casts as usual.
    with torch.autocast("cpu", enabled=False):
        return lstm(x.to(lstm.weight_ih_l0.dtype), memory)
