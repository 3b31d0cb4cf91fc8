"""Short causal convolutions: each token mixed with the few before it, so that a node token knows its edge."""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


@dataclass(kw_only=True)
class Cache:
    """Decoding state of a model: what its convolutions keep of the tokens read so far."""

    windows: dict[int, Float[Tensor, "B W D"]] = field(default_factory=dict)
    """Last W inputs of the convolution before each block, by the number of the block."""


class ShortConv(nn.Conv1d):
    """A depthwise causal convolution over a token and the three before it, added to its input.

    Weights are drawn from N(0, 0.3²); there is no bias.

    Source: Allen-Zhu, "Physics of Language Models: Part 4.1, Architecture Design and the Magic of Canon
    Layers" (2512.17351), §3, Canon layer A; the convolution of Gu & Dao, "Mamba" (2312.00752), §3.4.
    """

    def __init__(self, width: int) -> None:
        super().__init__(width, width, kernel_size=4, groups=width, bias=False)

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=0.3)

    def forward(
        self, x: Float[Tensor, "B T D"], cache: Cache | None = None, block: int = 0, myopic: bool = False
    ) -> Float[Tensor, "B T D"]:
        """Return x with the convolution added. `cache` holds the inputs before x, and is continued.

        Args:
            block: number of the block that reads the output, the key in `cache.windows`.
            myopic: tokens before a position get no gradient from it.
        """
        window = cache.windows.get(block) if cache else None
        mixed, window = causal_conv(self, x.detach() if myopic else x, window)
        if cache is not None:
            cache.windows[block] = window
        if myopic:
            mixed = mixed + (x - x.detach()) * self.weight[:, 0, -1]
        return x + mixed

    def by_position(
        self,
        x: Float[Tensor, "B T D"],
        positions: Int[Tensor, " T"] | Int[Tensor, "B T"],
        attention_mask: Bool[Tensor, "T T"] | Bool[Tensor, "B T T"],
    ) -> Float[Tensor, "B T D"]:
        """Mix each token with those at the three positions before its own, as far as it sees them.

        With the positions 0, 1, … and the causal mask, this is `forward`, but slower.
        """
        distance = positions[..., :, None] - positions[..., None, :]
        weight = self.weight[:, 0].flip(1)  # column j: of the token j positions before
        x, mixed = x + x * weight[:, 0], x
        for j in range(1, weight.shape[1]):
            before = ((distance == j) & attention_mask).to(x.dtype)
            x = x + before @ mixed * weight[:, j]
        return x


def causal_conv(
    conv: nn.Conv1d, x: Float[Tensor, "B T C"], window: Float[Tensor, "B W C"] | None
) -> tuple[Float[Tensor, "B T C"], Float[Tensor, "B W C"]]:
    """Return the depthwise convolution of x over each token and the W before, and the next window."""
    padded = F.pad(x, (0, 0, conv.kernel_size[0] - 1, 0)) if window is None else torch.cat([window, x], 1)
    # conv2d on an image one pixel high, with channels last: conv1d would transpose T and C first.
    image = padded.mT[:, :, None]
    mixed = F.conv2d(image, conv.weight[:, :, None], conv.bias, groups=conv.groups)[:, :, 0].mT
    return mixed, padded[:, x.shape[1] :]
