"""Multi-token prediction whose further heads are anchored to the model's own later states."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from forethought.models import Model
from forethought.objectives.base import Prompt
from forethought.objectives.multi_token import MultiToken
from forethought.objectives.next_token_injection import linear_map
from forethought.tasks import Batch, Task
from forethought.validation import validated


class AnchoredMultiToken(MultiToken):
    """Anchored multi-token prediction (LSE-MTP): the next k tokens, each through its true hidden state.

    With s = x_1 … x_P y_1 … y_A, last hidden states h_t of the model, its embeddings E and output layer U,
    and for every i = 2 … k a linear map T_i of its own, ĥ_{t,i} = T_i h_t,

        CE_i     = -1/A Σ_t log softmax(U ĥ_{t,i})[s_{t+i}],   CE_1 from h_t
        latent_i = 1/A Σ_t mean (ĥ_{t,i} - sg[h_{t+i-1}])²         the state that has read s_<t+i
        anchor_i = 1/A Σ_t mean (ĥ_{t,i} - sg[E(s_{t+i})])²
        loss     = CE_1 + Σ_i CE_i + latent_weight · latent_i + semantic_weight · anchor_i

        input     x_1 … x_{P-1}  x_P   y_1  …  y_{A-1}
        head 1                   y_1   y_2  …  y_A
        head 2             y_1   y_2   y_3  …             (`loss_scope=spill` of `multi_token`)
        latent 2           h_P   h_P+1 h_P+2              (the state that predicts the same token)

    All three terms count where s_{t+i} is an answer token, and nowhere else. The targets are stopped (sg).
    Both weights 0: multi-token prediction with a shared output layer, the source's baseline. The maps are
    dropped at inference: decoded as in next-token prediction.

    On graphs whose answers are paths (`Task.path_edges`), `illegal_step_<i>` is the probability that head i,
    from the true prefix, gives to tokens that no i edges lead to from the current node. For i = 1 it is one
    less the source's legal step probability; its illegal shortcut probability counts one sampled node alone.
    Its structure gain and belief similarity compare the states of different paths in one fixed graph, and
    have no counterpart for a row by itself.

    What differs from the source: the published equations sum the squares over the width, the authors' code
    (github.com/QiminZhong/LSE-MTP), followed here, takes their mean. There, prompts are a pair of nodes and
    carry a loss as well.

    Source: Zhong et al., "Toward Consistent World Models with Multi-Token Prediction and Latent Semantic
    Enhancement" (2604.06155); the authors' code.

    Args:
        horizon: k, tokens predicted from each position; at most A. None: A, to the end of the answer.
        latent_weight: λ_l.
        semantic_weight: λ_s.

    Raises:
        Impossible: `horizon` is longer than the answer.
    """

    @validated
    def __init__(
        self,
        model: Model,
        task: Task,
        horizon: PositiveInt | None = None,
        latent_weight: NonNegativeFloat = 0.1,
        semantic_weight: NonNegativeFloat = 0.1,
    ) -> None:
        super().__init__(model, task, horizon)
        self.needs = "all"
        self.latent_weight, self.semantic_weight = latent_weight, semantic_weight

    def new_head(self) -> nn.Linear:
        return linear_map(self.model.width)

    def trunk(self, tokens: Int[Tensor, "B T"], prompt: Prompt) -> Float[Tensor, "B T D"]:
        return self.read(tokens, prompt)

    def head_state(
        self, i: int, trunk: Float[Tensor, "B T D"], prompt: Prompt, count: int
    ) -> Float[Tensor, "B S D"]:
        states = trunk[:, -count:]
        return states if i == 1 else self.heads[i - 2](states)

    def head_loss(self, i: int, trunk: Float[Tensor, "B T D"], batch: Batch) -> Float[Tensor, ""]:
        loss = super().head_loss(i, trunk, batch)
        hidden, target = self.aligned(i, trunk, batch)
        true = trunk[:, -target.shape[1] :].detach()  # the targets are the last tokens of the answer
        latent = F.mse_loss(hidden, true.to(hidden), reduction="none").mean(2)
        anchor = self.model.embed(target).detach()
        semantic = F.mse_loss(hidden, anchor.to(hidden), reduction="none").mean(2)
        anchored = self.latent_weight * latent + self.semantic_weight * semantic
        return loss + (anchored * (target != self.task.dummy)).sum()

    def diagnostics(self, batch: Batch, task: Task) -> dict[str, Float[Tensor, " N"]]:
        """Return the probability of illegal steps, of each token that is a step."""
        edges = task.path_edges(batch.prompt)
        if edges is None:
            return {}
        answer = batch.answer
        trunk = self.trunk(torch.cat([batch.prompt, answer[:, :-1]], 1), batch.prompt)
        reached = F.one_hot(answer, len(task.vocabulary)).bool()
        found = {}
        for i in range(1, min(self.horizon, answer.shape[1] - 1) + 1):
            # Column t: the nodes that i edges lead to from y_t. Where y_{t+i} is a node, it is one of them.
            reached = follow(reached[:, :-1], *edges)
            hidden = self.head_state(i, trunk, batch.prompt, answer.shape[1] - 1)[:, : reached.shape[1]]
            legal = reached[..., : task.dummy]
            probability = self.head_logits(i, hidden)[..., : task.dummy].softmax(2)
            steps = reached.gather(2, answer[:, i:, None])[..., 0] & (answer[:, i:] != task.dummy)
            found[f"illegal_step_{i}"] = probability.masked_fill(legal, 0).sum(2)[steps]
        return found


def follow(
    nodes: Bool[Tensor, "B S V"], tails: Int[Tensor, "B E"], heads: Int[Tensor, "B E"]
) -> Bool[Tensor, "B S V"]:
    """Return the set of nodes that an edge leads to from a set of nodes."""
    width = nodes.shape[1]
    taken = nodes.gather(2, tails[:, None].expand(-1, width, -1))
    # A GPU has no scatter of booleans by maximum.
    nothing = torch.zeros_like(nodes, dtype=torch.long)
    return nothing.scatter_add(2, heads[:, None].expand(-1, width, -1), taken.long()) > 0
