"""Multi-token prediction whose further heads are told the next token."""

from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field, NonNegativeInt
from torch import Tensor, nn

from forethought.models import Model
from forethought.objectives.added_loss import AddedLoss, States
from forethought.objectives.base import check_at_most
from forethought.tasks import Batch, Task
from forethought.validation import validated


class NextTokenInjection(AddedLoss):
    """Next-token injection (NTI): the next token, and the ones after it from the true next one.

    With s = x_1 … x_P y_1 … y_A, last hidden states h_t of the model, its embeddings E and output layer U, a
    learned number κ and, for every n = 2 … k, a transfer layer T_n of its own,

        h̃_t  = h_t + κ E(s_{t+1})
        CE_n = -1/A Σ_t log softmax(U T_n(h̃_1 … h̃_t))[s_{t+n}],   CE_1 without T and from h_t
        loss = Σ_n CE_n

        input      x_P   y_1  …  y_{A-2}  y_{A-1}
        model      y_1   y_2  …  y_{A-1}  y_A          prompt tokens carry no loss
        injected   y_1   y_2  …  y_{A-1}
        head 2     y_2   y_3  …  y_A

    T_n is a linear map of h̃_t alone, or a Transformer of `layers` blocks on h̃_1 … h̃_t, followed by the
    model's last norm. T_2 can learn which nodes follow a node, so that the states learn which next nodes
    lead on. The transfer layers are dropped at inference: decoded as in next-token prediction.

    `sequential_multi_token` with k = 2 reads the same two things, but merges them by a norm each and a
    projection. From k = 3 on, its modules read all true tokens between, each from the module before; here
    all T_n read the same h̃.

    Not published, our reading: κ begins at 1, and the last norm follows the blocks. In the source, all
    tokens of a sequence carry a loss; its prompts are a pair of nodes.

    Source: Zhong et al., "Understanding and Enhancing the Planning Capability of Language Models via
    Multi-Token Prediction" (2509.23186), §4, eq. 5.

    Args:
        horizon: k, tokens predicted from each position, from 2 to A; published: 2 and 3. None: A, to the end
            of the answer.
        layers: blocks of each transfer layer; 0: a linear map.

    Raises:
        Impossible: `horizon` is longer than the answer, or the answer has one token.
    """

    needs = "all"

    @validated
    def __init__(
        self,
        model: Model,
        task: Task,
        horizon: Annotated[int, Field(ge=2)] | None = None,
        layers: NonNegativeInt = 1,
    ) -> None:
        super().__init__(model, task)
        horizon = horizon or max(2, task.answer_length)
        check_at_most(task.answer_length, task, horizon=horizon)
        self.injection = nn.Parameter(torch.ones(()))
        self.transfers = nn.ModuleList(
            nn.ModuleList(model.new_layer() for _ in range(layers)) if layers else linear_map(model.width)
            for _ in range(horizon - 1)
        )

    def added_loss(self, states: States, batch: Batch) -> Float[Tensor, ""]:
        sequence = torch.cat([batch.prompt, batch.answer], 1)
        loss = states.all.new_zeros(())
        injected = states.all[:, :-2] + self.injection * self.model.embed(sequence[:, 1:-1])
        for n, transfer in enumerate(self.transfers, 2):
            reader = injected[:, : sequence.shape[1] - n]  # from these, s_{t+n} is within the answer
            if isinstance(transfer, nn.ModuleList):
                count = batch.answer.shape[1] - n + 1
                predicted = self.read(reader, batch.prompt, count, layers=[*transfer])
            else:
                predicted = transfer(reader)
            loss = loss + self.ahead_loss(predicted, batch, n)
        return loss


def linear_map(width: int) -> nn.Linear:
    """Return a linear map of the hidden states, without a bias."""
    layer = nn.Linear(width, width, bias=False)
    nn.init.normal_(layer.weight, std=0.02)
    return layer
