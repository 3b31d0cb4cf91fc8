"""Token order prediction: the next token, and a ranking of all upcoming tokens by distance."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from forethought.models import Model, OutputLayer
from forethought.objectives.added_loss import AddedLoss, States
from forethought.objectives.base import tokens_ahead
from forethought.tasks import Batch, Task
from forethought.validation import validated


class TokenOrder(AddedLoss):
    """Token order prediction (TOP): the next token, and from the same state the order of all that follow.

    With prompt x, answer y_1 … y_A and h_i the hidden state that predicts y_i, a second output layer U
    ranks the vocabulary: v scores W - δ if it next occurs δ ≤ W tokens ahead of h_i, else -∞;

        loss = -1/A Σ_i log p(y_i | h_i)  -  weight/A Σ_i Σ_v softmax(score_i)_v log softmax(U h_i)_v

        input        x_1 … x_P            y_1              …  y_{A-1}
        next token            y_1         y_2              …  y_A
        order                 y_1 ≻ … ≻ y_A   y_2 ≻ … ≻ y_A   …  y_A        prompt tokens carry no loss

    The softmax of the scores is e^-δ, normalised: the next token has at least 63 % of it. Decoded as
    next-token prediction is, without U.

    Source: Zuhri et al., "Predicting the Order of Upcoming Tokens Improves Language Modeling"
    (2508.19228), §3; loss from the last prompt token on, as in their star-graph code.

    Args:
        window: W, in tokens; None: to the end of the answer.
        weight: weight of the ranking loss; 1 as published.
    """

    @validated
    def __init__(
        self,
        model: Model,
        task: Task,
        window: PositiveInt | None = None,
        weight: NonNegativeFloat = 1.0,
    ) -> None:
        super().__init__(model, task)
        self.window = window
        self.weight = weight
        self.order = OutputLayer(model.width, len(task.vocabulary), bias=False)
        nn.init.normal_(self.order.weight, std=0.02)

    def added_loss(self, states: States, batch: Batch) -> Float[Tensor, ""]:
        hidden = states.answer
        # Nothing follows padding: its scores are -∞, and their softmax is NaN.
        target = self.scores(batch.answer).softmax(2, dtype=hidden.dtype).nan_to_num()
        order = F.cross_entropy(self.order(hidden).transpose(1, 2), target.transpose(1, 2), reduction="none")
        return self.weight * self.mean(order, batch.answer)

    def scores(self, answer: Int[Tensor, "B A"]) -> Float[Tensor, "B A V"]:
        """Return -δ for each upcoming token of the vocabulary; the softmax is blind to the constant W."""
        length = answer.shape[1]
        window = length if self.window is None else self.window
        ahead = tokens_ahead(answer, len(self.task.vocabulary))
        return (-ahead).float().masked_fill(ahead > min(window, length), -torch.inf)
