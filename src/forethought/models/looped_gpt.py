"""A GPT that passes its few blocks several times over: serial depth without further weights."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveInt
from torch import nn

from forethought.models.gpt import GPT
from forethought.validation import Layers, validated


class LoopedGPT(GPT):
    """A GPT in which a token passes all blocks, in order, `loops` times before the last norm.

    It has the weights of a GPT of `layers` blocks and the serial depth of one of loops · layers, whose
    scale at initialisation it takes too: 1/sqrt(2 · loops · layers) for what writes into the residual
    stream. Every pass has keys and values of its own. Neither the input nor the number of the pass is
    fed in anew; the residual stream carries both on.

    Source: Dehghani et al., "Universal Transformers" (1807.03819), §2, with a fixed number of steps;
    Yang et al., "Looped Transformers are Better at Learning Learning Algorithms" (2311.12424), who add
    the input again in every loop; without that: Saunshi et al., "Reasoning with Latent Thoughts"
    (2502.17416).

    Args:
        layers: blocks in the loop.
        loops: how often they are passed; 1 is a GPT.
        others: as for `GPT`.
    """

    @validated
    def __init__(
        self,
        vocabulary_size: PositiveInt,
        context_length: PositiveInt,
        layers: Layers,
        loops: PositiveInt,
        width: PositiveInt,
        heads: PositiveInt,
        positions: Literal["learned", "rotary"] = "learned",
        mask: Literal["causal", "prefix", "full"] = "causal",
    ) -> None:
        self.loops = loops  # first, as the scale of the weights depends on it
        super().__init__(vocabulary_size, context_length, layers, width, heads, positions, mask)

    @property
    def stack(self) -> list[nn.Module]:
        return list(self.blocks) * self.loops
