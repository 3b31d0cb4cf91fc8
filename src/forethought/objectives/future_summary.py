"""Future summary prediction: the next token and, in no order, the tokens that follow it."""

from typing import Annotated

import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field, NonNegativeFloat
from torch import Tensor, nn

from forethought.models import Model, OutputLayer
from forethought.objectives.base import tokens_ahead
from forethought.objectives.next_token import NextToken
from forethought.tasks import Batch, Task
from forethought.validation import validated


class FutureSummary(NextToken):
    """Future summary prediction (FSP): the next token, and from the same state the bag of those after it.

    With prompt x, answer y_1 … y_A and h_i the hidden state that predicts y_i, a second output layer z
    predicts for each token v of the vocabulary if it is in the bag a_i = {y_{i+1}, …, y_{i+τ-1}}:

        loss = -1/A Σ_i log p(y_i | h_i)
               -  weight/A Σ_i Σ_v [v ∈ a_i] log σ(z(h_i)_v) + [v ∉ a_i] log σ(-z(h_i)_v)

        input        x_1 … x_P          y_1            …  y_{A-1}
        next token         y_1          y_2            …  y_A
        bag                {y_2 … y_A}  {y_3 … y_A}    …  {}          prompt tokens carry no loss

    The paper's weights per token (tf-idf) are 1 here: on tasks that draw their tokens uniformly they
    are the same for all. Decoded as in next-token prediction, without z.

    Source: Mahajan et al., "Beyond Multi-Token Prediction: Pretraining LLMs with Future Summaries"
    (2510.14751), the hand-crafted bag-of-words summary, eq. 7, 9 and 10.

    Args:
        window: τ, in tokens: the bag ends with the τ-th token ahead; None: with the answer.
        weight: weight of the bag's loss; 1 as published.
    """

    @validated
    def __init__(
        self,
        model: Model,
        task: Task,
        window: Annotated[int, Field(ge=2)] | None = None,
        weight: NonNegativeFloat = 1.0,
    ) -> None:
        super().__init__(model, task)
        self.window = window
        self.weight = weight
        self.summary = OutputLayer(model.width, len(task.vocabulary), bias=False)
        nn.init.normal_(self.summary.weight, std=0.02)

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        hidden = self.answer_hidden(batch)
        next_token = self.answer_loss(self.model.logits(hidden), batch)
        bag = self.bags(batch.answer).to(hidden.dtype)
        summary = F.binary_cross_entropy_with_logits(self.summary(hidden), bag, reduction="none")
        return next_token + self.weight * self.mean(summary.sum(2), batch.answer)

    def bags(self, answer: Int[Tensor, "B A"]) -> Float[Tensor, "B A V"]:
        """Return 1 for each token of the vocabulary that occurs after the next one, within the window."""
        length = answer.shape[1]
        window = length if self.window is None else self.window
        ahead = tokens_ahead(answer, len(self.task.vocabulary), nearest=2)
        return (ahead <= min(window, length)).float()
