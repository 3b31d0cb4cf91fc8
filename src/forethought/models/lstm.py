"""A stack of LSTM layers: the recurrent baseline, whose memory does not grow with what it reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import PositiveInt
from torch import Tensor, nn

from forethought.errors import Impossible
from forethought.models.kernels import Embedding
from forethought.validation import Layers, validated


@dataclass
class LSTMCache:
    """Output and cell of every layer after the tokens read so far: all that is kept of them."""

    memory: tuple[Float[Tensor, "L B D"], Float[Tensor, "L B D"]]


class LSTM(nn.Module):
    """Token ids or embeddings in, the outputs of the last layer out.

    Embeddings are drawn from N(0, 0.1), the layers' weights from U(±1/sqrt(D)); the forget gates begin
    with a bias near 1, without which the first gradients vanish within a few tokens. The output layer
    shares the token embedding. No norm, no dropout.

    Source: Hochreiter & Schmidhuber, "Long Short-Term Memory" (1997), with the forget gate of Gers et al.
    (2000); its bias: Jozefowicz et al., "An Empirical Exploration of Recurrent Network Architectures"
    (2015), §2.2; the shared embedding: Press & Wolf (1608.05859).

    Args:
        vocabulary_size: V.
        context_length: of no effect; an LSTM has no longest sequence.
        layers: number of LSTM layers.
        width: D, of the embeddings, outputs and cells.
        mask: `causal` alone.

    Raises:
        Impossible: another mask.
    """

    masks = ("causal",)

    @validated
    def __init__(
        self,
        vocabulary_size: PositiveInt,
        context_length: PositiveInt,
        layers: Layers,
        width: PositiveInt,
        mask: Literal["causal", "prefix", "full"] = "causal",
    ) -> None:
        super().__init__()
        if mask not in self.masks:
            raise Impossible(f"model.mask={mask}: LSTM reads from left to right; expected causal")
        self.mask = mask
        self.width = width
        self.embedding = Embedding(vocabulary_size, width)
        self.lstm = nn.LSTM(width, width, layers, batch_first=True)
        self.initialise(self)

    @torch.no_grad()
    def initialise(self, module: nn.Module) -> None:
        """Draw new weights for all of the model, or for one more layer of it."""
        for name, parameter in module.named_parameters():
            if name == "embedding.weight":
                nn.init.normal_(parameter, std=0.1)
                continue
            nn.init.uniform_(parameter, -(self.width**-0.5), self.width**-0.5)
            if "bias_ih" in name:  # the other of torch's two biases stays as it is
                parameter[self.width : 2 * self.width] = 1

    def forward(
        self,
        x: Int[Tensor, "B T"] | Float[Tensor, "B T D"],
        prompt_length: int = 0,
        cache: LSTMCache | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Outputs of the last layer.

        Args:
            x: token ids, or embeddings (`embed`) where an objective builds its own input.
            prompt_length: of no effect; the prompt is read like all else.
            cache: from `init_cache`; `x` then continues the sequence in the cache.
        """
        embedded = x if x.is_floating_point() else self.embed(x)
        hidden, memory = self.lstm(embedded, cache.memory if cache else None)
        if cache:
            cache.memory = memory
        return hidden

    def embed(self, tokens: Int[Tensor, "*N"]) -> Float[Tensor, "*N D"]:
        return self.embedding(tokens)

    def new_block(self) -> nn.Module:
        """One more layer, freshly initialised, for an objective's own heads."""
        layer = nn.LSTM(self.width, self.width, batch_first=True)
        self.initialise(layer)
        return layer

    def run_block(
        self, block: nn.Module, hidden: Float[Tensor, "B T D"], prompt_length: int = 0
    ) -> Float[Tensor, "B T D"]:
        """A layer of `new_block` that reads the outputs of the last layer, from the first on."""
        return block(hidden)[0]

    def init_cache(self, batch_size: int, length: int) -> LSTMCache:
        """What `batch_size` sequences of any length begin with."""
        zeros = self.embedding.weight.new_zeros(self.lstm.num_layers, batch_size, self.width)
        return LSTMCache((zeros, zeros))

    def logits(self, hidden: Float[Tensor, "*N D"]) -> Float[Tensor, "*N V"]:
        return F.linear(hidden, self.embedding.weight)
