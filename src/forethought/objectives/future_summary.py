"""Future summary prediction: the next token and a summary of the tokens that follow it."""

import copy
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field, NonNegativeFloat
from torch import Tensor, nn

from forethought.errors import Impossible
from forethought.models import Model, OutputLayer
from forethought.objectives.added_loss import AddedLoss, States
from forethought.objectives.base import flip_written, tokens_ahead
from forethought.tasks import Batch, Task
from forethought.validation import validated


class FutureSummary(AddedLoss):
    """Future summary prediction (FSP): the next token, and from the same state a summary of those after it.

    With prompt x, answer y_1 … y_A and h_i the hidden state that predicts y_i,

        loss = -1/A Σ_i log p(y_i | h_i)  +  weight/A Σ_i S_i

        input        x_1 … x_P          y_1            …  y_{A-1}
        next token         y_1          y_2            …  y_A
        summary of         {y_2 … y_A}  {y_3 … y_A}    …  {}          prompt tokens carry no loss

    `bag_of_words` (FSP-BoW): a second output layer z predicts for each token v of the vocabulary if it is in
    the bag a_i = {y_{i+1}, …, y_{i+τ-1}}:

        S_i = -Σ_v [v ∈ a_i] log σ(z(h_i)_v) + [v ∉ a_i] log σ(-z(h_i)_v)

    The paper's weights per token (tf-idf) are 1 here: on tasks that draw their tokens uniformly they are the
    same for all.

    `revlm` (FSP-RevLM): a linear layer W predicts the last state r_i of a reverse model, a second model of
    the same kind that reads `$ y_A … y_{i+1}` and predicts y_i. It never reads the prompt, as r_i must know
    the future alone. Its own next-token loss is added, and sg stops its gradient:

        S_i = 1/D |W h_i - sg[r_i]|²
        loss = …  - 1/A Σ_i log p_rev(y_i | r_i)

    The paper trains its reverse model beforehand. Here both models are trained in one run, as if apart: they
    share no weights, and no loss of one has a gradient in the other. The targets move until the reverse
    model has settled.

    Decoded as in next-token prediction, without z, W and the reverse model.

    Source: Mahajan et al., "Beyond Multi-Token Prediction: Pretraining LLMs with Future Summaries"
    (2510.14751), eq. 7, 9 and 10 for the bag of words; the reverse language model is its learned summary.

    Args:
        window: τ, in tokens: the bag ends with the τ-th token ahead; None: with the answer.
        weight: weight of the summary's loss; 1 as published.
        summary: `bag_of_words` or `revlm`.

    Raises:
        Impossible: `window` is given for `revlm`, which always reads to the end of the answer.
    """

    @validated
    def __init__(
        self,
        model: Model,
        task: Task,
        window: Annotated[int, Field(ge=2)] | None = None,
        weight: NonNegativeFloat = 1.0,
        summary: Literal["bag_of_words", "revlm"] = "bag_of_words",
    ) -> None:
        super().__init__(model, task)
        self.window = window
        self.weight = weight
        self.reverse_model: Model | None = None
        self.summary: nn.Linear
        if summary == "bag_of_words":
            self.summary = OutputLayer(model.width, len(task.vocabulary), bias=False)
        else:
            if window is not None:
                raise Impossible(
                    f"objective.window={window}: not supported with objective.summary=revlm, which reads to "
                    "the end of the answer; use null"
                )
            self.summary = nn.Linear(model.width, model.width, bias=False)
            self.reverse_model = model.twin()
            self.reverse_model.embedding = copy.deepcopy(model.embedding)  # a twin shares it
        nn.init.normal_(self.summary.weight, std=0.02)

    def added_loss(self, states: States, batch: Batch) -> Float[Tensor, ""]:
        guess = self.summary(states.answer)
        if self.reverse_model is not None:
            true, reverse = self.read_reversed(self.reverse_model, batch.answer)
            distance = F.mse_loss(guess, true.detach().to(guess), reduction="none").mean(2)
            return self.weight * self.mean(distance, batch.answer) + reverse
        bag = self.bags(batch.answer).to(states.answer.dtype)
        summary = F.binary_cross_entropy_with_logits(guess, bag, reduction="none")
        return self.weight * self.mean(summary.sum(2), batch.answer)

    def read_reversed(
        self, model: Model, answer: Int[Tensor, "B A"]
    ) -> tuple[Float[Tensor, "B A D"], Float[Tensor, ""]]:
        """Return r_i for each answer token, and the next-token loss of the reverse model."""
        flipped = flip_written(answer, self.task.dummy)
        start = torch.full_like(answer[:, :1], self.task.dummy)
        hidden = model(torch.cat([start, flipped[:, :-1]], 1))
        written = (answer != self.task.dummy).sum(1, keepdim=True)
        # r_i has read the tokens behind y_i, of which there are n - i.
        behind = (written - 1 - torch.arange(answer.shape[1], device=answer.device)).clamp(min=0)
        states = hidden.gather(1, behind[..., None].expand_as(hidden))
        return states, self.cross_entropy(model.logits(hidden), flipped)

    def bags(self, answer: Int[Tensor, "B A"]) -> Float[Tensor, "B A V"]:
        """Return 1 for each token of the vocabulary that occurs after the next one, within the window."""
        length = answer.shape[1]
        window = length if self.window is None else self.window
        ahead = tokens_ahead(answer, len(self.task.vocabulary), nearest=2)
        return (ahead <= min(window, length)).float()
