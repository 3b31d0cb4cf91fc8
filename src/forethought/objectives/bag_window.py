"""Bag-window heads: the next token, and the frequencies of the tokens in windows that follow."""

from collections.abc import Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field, NonNegativeFloat
from torch import Tensor, nn

from forethought.models import Model
from forethought.objectives.added_loss import AddedLoss, States
from forethought.tasks import Batch, Task
from forethought.validation import validated


class BagWindow(AddedLoss):
    """Bag-window heads: the next token, and per window k, the frequencies of the next k tokens.

    With prompt x and answer y_1 … y_A, each window k has a head p_k, and f_k,i(v) is the share of token v
    among y_i … y_{i+k-1}, or among y_i … y_A where the answer ends before,

        loss = -1/A Σ_i log p(y_i | x, y_<i)  -  weight/A Σ_k Σ_i Σ_v f_k,i(v) log p_k(v | x, y_<i)

        input         x_1 … x_P        y_1              …  y_{A-1}
        next token          y_1        y_2              …  y_A
        window 2            {y_1 y_2}  {y_2 y_3}        …  {y_A}       prompt tokens carry no loss

    Head p_k is a new last block beside the model's, as in `multi_token`; the heads share the model's trunk,
    its last norm and its output layer. Without them the model is that of next-token prediction, and decodes
    as such. (A pretrained model is not taken apart: each head is then a new block on its last states.)

    Source: public code without a paper or results, shoaibahmed/Next-Token-Failures, `prediction_head_sizes`
    with the boundary condition `normalize`; there each head has its own weight. The nearest paper: Ma et al.,
    "Bag-of-Words as Target for Neural Machine Translation" (1805.04871), with one bag of the whole target.

    Args:
        windows: sizes k, in tokens, one head each; the next token has its own head.
        weight: weight of each head's loss.
    """

    needs = "trunk"

    @validated
    def __init__(
        self,
        model: Model,
        task: Task,
        windows: Annotated[Sequence[Annotated[int, Field(ge=2)]], Field(min_length=1)] = (2, 4),
        weight: NonNegativeFloat = 1.0,
    ) -> None:
        super().__init__(model, task)
        self.windows = tuple(windows)
        self.weight = weight
        self.heads = nn.ModuleList(model.new_layer() for _ in windows)

    def added_loss(self, states: States, batch: Batch) -> Float[Tensor, ""]:
        answer, trunk = batch.answer, states.trunk[:, :-1]
        loss = trunk.new_zeros(())
        for window, head in zip(self.windows, self.heads, strict=True):
            hidden = self.read(trunk, batch.prompt, answer.shape[1], layers=[head])
            target = self.frequencies(answer, window).flatten(0, 1)
            losses = F.cross_entropy(self.model.logits(hidden).flatten(0, 1), target, reduction="none")
            loss = loss + self.weight * self.mean(losses.view_as(answer), answer)
        return loss

    def frequencies(self, answer: Int[Tensor, "B A"], window: int) -> Float[Tensor, "B A V"]:
        """Return the share of each token among the next `window` ones from each position."""
        occurs = F.one_hot(answer, len(self.task.vocabulary)).to(self.model.embedding.weight.dtype)
        occurs[..., self.task.dummy] = 0
        until = F.pad(occurs.cumsum(1), (0, 0, 1, 0))
        first = torch.arange(answer.shape[1], device=answer.device)
        counts = until[:, (first + window).clamp(max=len(first))] - until[:, first]
        return counts / counts.sum(2, keepdim=True).clamp(min=1)
