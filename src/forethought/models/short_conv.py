"""Short causal convolutions: each token mixed with the few before it, so that a node token knows its edge."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from forethought.models.layers import AnyLayer, Context, causal_mask


@dataclass
class Window:
    """The last W inputs of a convolution; None before the first token."""

    inputs: Float[Tensor, "B W C"] | None = None


class ShortConv(nn.Conv1d, AnyLayer):
    """A depthwise causal convolution over a token and the three before it, added to its input.

    Weights are drawn from N(0, 0.3²); there is no bias.

    Source: Allen-Zhu, "Physics of Language Models: Part 4.1, Architecture Design and the Magic of Canon
    Layers" (2512.17351), §3, Canon layer A; the convolution of Gu & Dao, "Mamba" (2312.00752), §3.4.
    """

    def __init__(self, width: int) -> None:
        super().__init__(width, width, kernel_size=4, groups=width, bias=False)

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=0.3)

    def init_cache(self, batch_size: int, length: int) -> Window:
        return Window()

    def forward(  # type: ignore[override]
        self, x: Float[Tensor, "B T D"], context: Context
    ) -> Float[Tensor, "B T D"]:
        if context.padding is not None:
            x = x.masked_fill(context.padding[..., None], 0)
        if context.by_position:
            return self.neighbours(x, context)
        return x + self.mix(x, context)

    def mix(self, x: Float[Tensor, "B T D"], context: Context) -> Float[Tensor, "B T D"]:
        """Return the convolution of x, which continues what the cache holds."""
        window = context.cache.inputs if context.cache else None
        mixed, window = causal_conv(self, x, window)
        if context.cache:
            context.cache.inputs = window
        return mixed

    def neighbours(self, x: Float[Tensor, "B T D"], context: Context) -> Float[Tensor, "B T D"]:
        """Mix each token with those at the three positions before its own, as far as it sees them.

        With the positions 0, 1, … and the causal mask, this is the convolution, but slower.
        """
        positions, visible = context.positions, context.attention_mask
        if visible is None:
            visible = causal_mask(x.shape[1], device=x.device)
        distance = positions[..., :, None] - positions[..., None, :]
        weight = self.weight[:, 0].flip(1)  # column j: of the token j positions before
        mixed = x + x * weight[:, 0]
        for j in range(1, weight.shape[1]):
            mixed = mixed + ((distance == j) & visible).to(x.dtype) @ x * weight[:, j]
        return mixed


def causal_conv(
    conv: nn.Conv1d, x: Float[Tensor, "B T C"], window: Float[Tensor, "B W C"] | None
) -> tuple[Float[Tensor, "B T C"], Float[Tensor, "B W C"]]:
    """Return the depthwise convolution of x over each token and the W before, and the next window."""
    padded = F.pad(x, (0, 0, conv.kernel_size[0] - 1, 0)) if window is None else torch.cat([window, x], 1)
    # conv2d on an image one pixel high, with channels last: conv1d would transpose T and C first.
    image = padded.mT[:, :, None]
    mixed = F.conv2d(image, conv.weight[:, :, None], conv.bias, groups=conv.groups)[:, :, 0].mT
    return mixed, padded[:, x.shape[1] :]
