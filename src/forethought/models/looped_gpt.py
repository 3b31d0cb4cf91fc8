"""A GPT that loops over its blocks: serial depth without further weights."""

from typing import Literal

from pydantic import PositiveInt
from torch import nn

from forethought.models.base import Conv
from forethought.models.gpt import GPT
from forethought.validation import Layers, validated


class LoopedGPT(GPT):
    """A GPT in which a token passes all blocks, in order, `loops` times before the last norm.

    The model has the weights of a GPT with `layers` blocks and the serial depth of one with loops · layers.
    Projections into the residual stream are scaled by 1/sqrt(2 · loops · layers) at initialisation. Every
    pass has keys and values of its own. Only the residual stream connects the passes: the input is not
    added again, and nothing encodes the number of the pass.

    Source: Dehghani et al., "Universal Transformers" (1807.03819), §2, with a fixed number of steps;
    Yang et al., "Looped Transformers are Better at Learning Learning Algorithms" (2311.12424), who add
    the input again in every loop; without that: Saunshi et al., "Reasoning with Latent Thoughts"
    (2502.17416).

    Args:
        layers: blocks in the loop.
        loops: passes through the blocks; 1 is a GPT.
        others: as for `GPT`.
    """

    @validated
    def __init__(
        self,
        vocabulary_size: PositiveInt,
        context_length: PositiveInt,
        layers: Layers = 1,
        loops: PositiveInt = 3,
        width: PositiveInt = 64,
        heads: PositiveInt = 4,
        positions: Literal["learned", "rotary"] = "learned",
        mask: Literal["causal", "prefix", "full"] = "causal",
        conv: Conv = "none",
    ) -> None:
        self.loops = loops  # before `GPT` draws the weights, whose scale depends on it
        super().__init__(vocabulary_size, context_length, layers, width, heads, positions, mask, conv)

    @property
    def stack(self) -> list[nn.Module]:
        """Blocks in the order in which a token passes them."""
        return list(self.blocks) * self.loops
