"""Multi-token prediction by a chain of modules, each reading one more true token."""

import torch
from jaxtyping import Float
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from forethought.models import Model
from forethought.objectives.added_loss import AddedLoss, States
from forethought.objectives.base import check_at_most
from forethought.tasks import Batch, Task
from forethought.validation import validated


class SequentialMultiToken(AddedLoss):
    """Sequential multi-token prediction: the next k tokens, each by a module that reads the true ones before.

    With s = x_1 … x_P y_1 … y_A, hidden states h^1 of the model, embeddings E and output layer U of the
    model too, and for every module n = 2 … k a projection W_n and a block F_n,

        h^n_t = F_n(W_n [RMSNorm(h^{n-1}_t); RMSNorm(E(s_{t+n-1}))])
        CE_n  = -1/A Σ_t log softmax(U h^n_t)[s_{t+n}]
        loss  = CE_1 + λ/(k - 1) Σ_n CE_n

        input     x_P   y_1  …  y_{A-2}  y_{A-1}
        model     y_1   y_2  …  y_{A-1}  y_A          prompt tokens carry no loss
        also read y_1   y_2  …  y_{A-1}
        module 2  y_2   y_3  …  y_A

    The tokens between are the true ones, so module n can cheat as next-token prediction does. The
    modules are dropped at inference: decoded as in next-token prediction.

    Source: DeepSeek-AI, "DeepSeek-V3 Technical Report" (2412.19437), §2.2, with D = k - 1.

    Args:
        horizon: k, tokens predicted from each position; at most A.
        chain_weight: λ.

    Raises:
        Impossible: `horizon` is longer than the answer.
    """

    needs = "all"

    @validated
    def __init__(
        self, model: Model, task: Task, horizon: PositiveInt = 3, chain_weight: NonNegativeFloat = 0.3
    ) -> None:
        super().__init__(model, task)
        check_at_most(task.answer_length, task, horizon=horizon)
        self.chain_weight = chain_weight
        width = model.width
        self.chain = nn.ModuleList(Link(width, model.new_layer()) for _ in range(horizon - 1))

    def added_loss(self, states: States, batch: Batch) -> Float[Tensor, ""]:
        sequence, hidden = torch.cat([batch.prompt, batch.answer], 1), states.all[:, :-1]
        loss = hidden.new_zeros(())
        for n, link in enumerate(self.chain, 2):
            merged = link(hidden[:, :-1], self.model.embed(sequence[:, n - 1 : -1]))
            count = merged.shape[1] if link is not self.chain[-1] else batch.answer.shape[1] - n + 1
            hidden = self.read(merged, batch.prompt, count, layers=[link.block])
            loss = loss + self.chain_weight / len(self.chain) * self.ahead_loss(hidden, batch, n)
        return loss


class Link(nn.Module):
    """Input of one block of the chain, from the link before and a true token."""

    def __init__(self, width: int, block: nn.Module) -> None:
        super().__init__()
        self.hidden_norm = nn.RMSNorm(width)
        self.token_norm = nn.RMSNorm(width)
        self.merge = nn.Linear(2 * width, width, bias=False)
        nn.init.normal_(self.merge.weight, std=0.02)
        self.block = block

    def forward(
        self, hidden: Float[Tensor, "B T D"], token: Float[Tensor, "B T D"]
    ) -> Float[Tensor, "B T D"]:
        # Full precision also under autocast: the block's residual stream must not be rounded.
        dtype = self.hidden_norm.weight.dtype
        normed = [self.hidden_norm(hidden.to(dtype)), self.token_norm(token.to(dtype))]
        return self.merge(torch.cat(normed, 2)).to(dtype)
