"""Myopic next-token prediction: the negative control, which cannot be trained to plan."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from forethought.errors import Impossible
from forethought.models import Model
from forethought.models.gpt import Attention
from forethought.models.layers import Context, causal_mask
from forethought.models.short_conv import ShortConv
from forethought.objectives.next_token import NextToken
from forethought.tasks import Task
from forethought.validation import validated


class Myopic(NextToken):
    """Myopic next-token prediction: each answer token, with no gradient to the states of earlier positions.

    The loss, its value and the decoding are those of next-token prediction,

        loss = -1/A Σ_i log p(y_i | x, y_<i)

    but where position t attends to another position s, it does so through W_K stopgrad(h_s) and
    W_V stopgrad(h_s), with h_s the input of the attention. So the loss of y_i shapes the hidden state at
    its own position and none before it: a position serves later tokens by luck alone. The *myopia gap* is
    this loss on the true answers minus that of next-token prediction.

    Source: Wu et al., "Do Language Models Plan Ahead for Future Tokens?" (2404.00859), §3; W_K and W_V
    keep their gradient, as in its published code. There the prompt is predicted too; here, as in every
    objective, the answer alone is, so no loss shapes the prompt's hidden states but the last.

    Raises:
        Impossible: the model cannot detach its keys and values.
    """

    @validated
    def __init__(self, model: Model, task: Task) -> None:
        super().__init__(model, task)
        detach_past(model)


def detach_past(model: Model) -> None:
    """Replace each attention and short convolution of a model by its myopic kind, with the same weights.

    Raises:
        Impossible: the model has no attention that can be replaced.
    """
    found = [
        (parent, name, MYOPIC[type(layer)](layer))
        for parent in model.modules()
        for name, layer in parent.named_children()
        if type(layer) in MYOPIC
    ]
    if not any(isinstance(layer, MyopicAttention) for _, _, layer in found):
        raise Impossible(
            f"model: {type(model).__name__} has no attention whose past can be detached; "
            "use gpt or looped_gpt"
        )
    for parent, name, layer in found:
        setattr(parent, name, layer)


class MyopicAttention(Attention):
    """Attention in which only a position's own key and value carry a gradient to the hidden states."""

    def __init__(self, attention: Attention) -> None:
        nn.Module.__init__(self)
        self.heads, self.rotary = attention.heads, attention.rotary
        self.input, self.output = attention.input, attention.output

    def forward(self, x: Float[Tensor, "B T D"], context: Context) -> Float[Tensor, "B L D"]:
        if context.cache is not None or not torch.is_grad_enabled():
            return super().forward(x, context)  # the same values
        q, k, v = self.project(x, context.of_layer(None, None))
        _, past_k, past_v = self.project(x.detach(), context.of_layer(None, None))
        scores = q @ past_k.transpose(2, 3) / math.sqrt(q.shape[3])
        scores = scores + torch.diag_embed((q * (k - past_k)).sum(3) / math.sqrt(q.shape[3]))
        visible = context.attention_mask
        if visible is None:
            visible = causal_mask(x.shape[1], device=x.device)
        if visible.ndim == 3:
            visible = visible[:, None]
        weights = scores.masked_fill(~visible, -torch.inf).softmax(3)
        return self.merge(weights @ past_v + weights.diagonal(dim1=2, dim2=3)[..., None] * (v - past_v))


class MyopicConv(ShortConv):
    """A short convolution in which only a position's own input carries a gradient."""

    def __init__(self, conv: ShortConv) -> None:
        super().__init__(conv.in_channels)
        self.weight = conv.weight

    def mix(self, x: Float[Tensor, "B T D"], context: Context) -> Float[Tensor, "B T D"]:
        return super().mix(x.detach(), context) + (x - x.detach()) * self.weight[:, 0, -1]


MYOPIC: dict[type, Any] = {Attention: MyopicAttention, ShortConv: MyopicConv}
