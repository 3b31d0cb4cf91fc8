"""Joint multi-token prediction (JTP): a window of upcoming tokens through one hidden state."""

from typing import Annotated, Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field, NonNegativeFloat
from torch import Tensor

from forethought.errors import Impossible
from forethought.models.gpt import Attention, initialise
from forethought.objectives.base import check_at_most
from forethought.objectives.next_token import NextToken
from forethought.tasks import Batch, Task
from forethought.validation import validated


class JointMultiToken(NextToken):
    """Joint multi-token prediction (JTP): the next k tokens jointly, from one hidden state and each other.

    With s = x_1 … x_P y_1 … y_A, hidden states h_t of s_≤t, embeddings E and output layer U,

        loss = -1/A Σ_t log p(s_{t+1} … s_{t+k} | h_t)
             = -1/A Σ_t Σ_i log softmax(U g_i)[s_{t+i}],   i = 1 … k

        g_1 = h_t,   g_i = h_t + Fetch(γ h_t + E(s_{t+1}), …, γ h_t + E(s_{t+i-1}))

        position t              x_P            y_1            …
        target (tokens read)    y_1            y_2
                                y_2 (y_1)      y_3 (y_2)
                                y_3 (y_1 y_2)  y_4 (y_2 y_3)  …     prompt tokens carry no loss

    Fetch is one layer of causal self-attention, with neither positions nor norm. Of the sequence before
    the window it sees h_t alone: a bottleneck that must hold all that the true tokens s_{t+1} … do not
    tell. Terms beyond the answer's end are skipped. Fetch is dropped at inference: decoded token by token.

    Source: Ahn, Lamb & Langford, "Efficient Joint Prediction of Multiple Future Tokens" (2503.21801).

    Args:
        horizon: k, from 2 to A.
        hidden_scale: γ.
        heads: attention heads of Fetch; a divisor of the model's width.

    Raises:
        Impossible: `horizon` is longer than the answer, or `heads` does not divide the width.
    """

    @validated
    def __init__(
        self,
        model: Any,
        task: Task,
        horizon: Annotated[int, Field(ge=2)] = 3,
        hidden_scale: NonNegativeFloat = 0.5,
        heads: Annotated[int, Field(ge=1)] = 1,
    ) -> None:
        super().__init__(model, task)
        check_at_most(task.answer_length, task, horizon=horizon)
        width = model.width
        if width % heads:
            raise Impossible(f"objective.heads={heads}: not a divisor of model.width={width}; use a divisor")
        self.horizon = horizon
        self.hidden_scale = hidden_scale
        self.fetch = Attention(width, heads)
        initialise(self.fetch, depth=1)

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        answer, hidden = batch.answer, self.answer_hidden(batch)
        # windows[:, j] = y_{j+1} … y_{j+k}; tokens beyond the answer are -100 and carry no loss.
        windows = F.pad(answer, (0, self.horizon - 1), value=-100).unfold(1, self.horizon, 1)
        logits = self.model.logits(self.states(hidden, windows[:, :, :-1].clamp(min=0)))
        total = F.cross_entropy(logits.flatten(0, 2), windows.flatten(), ignore_index=-100, reduction="sum")
        return total / answer.numel()

    def states(self, hidden: Float[Tensor, "B A D"], read: Int[Tensor, "B A K"]) -> Float[Tensor, "B A W D"]:
        """Return g_1 … g_k at every position, W = k, from the hidden state and K = k - 1 true tokens."""
        hidden = hidden[:, :, None]
        inputs = self.hidden_scale * hidden + self.model.embed(read)
        fetched = self.fetch(inputs.flatten(0, 1), None, None, None, False).view_as(inputs)
        return torch.cat([hidden, hidden + fetched], 2)
