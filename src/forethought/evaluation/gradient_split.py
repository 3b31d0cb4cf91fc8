"""The origin of the gradient at the decision: its own token's loss, later losses, or other positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from forethought.evaluation.decision import decided_rows
from forethought.evaluation.hooks import logits_with_hook
from forethought.tasks import Batch

if TYPE_CHECKING:
    from forethought.objectives import Objective


@torch.enable_grad()
def gradient_split(objective: Objective, rows: Batch) -> Float[Tensor, "S 4"] | None:
    """Return the norms of the three parts of the gradient at the decision, and a cosine, by layer.

    r is the output of layer k (0: the embedding) at the position that predicts a row's first decision
    token, and L_j the teacher-forced loss of answer token j, with i the decision. The gradient of the mean
    over rows of Σ_j L_j by the parameters of the embedding and of layers 1 … k is the sum of

        direct        of L_i, through r
        pre-cached    of L_j with j > i, through r
        shared        of all L_j, through the other positions of layer k

    The S = 1 + layers rows hold the norms of these, and the cosine of direct and pre-cached: above 0, later
    tokens ask the decision's position for what its own token asks for (0 if one of them is zero). At the
    last layer, and under `Myopic`, pre-cached is zero.

    Weights that are used above layer k, too (a tied output layer, the blocks of a loop), count there as
    constants. The source counts that use as shared.

    None where the split has no meaning: as of `grad_flow`, or no row has a decision token.

    Source: Rofin, Naghiyev & Hahn, "Understanding the Emergence of Seemingly Useless Features in
    Next-Token Predictors" (2603.14087).

    Args:
        rows: rows without a decision token are left out.
    """
    model = objective.model
    embedding = getattr(model, "embedding", None)
    if not (objective.next_token_layout and objective.teacher_forced and embedding):
        return None
    rows, decision = decided_rows(objective.task, rows.to(objective.device))
    if not len(rows) or not embedding.weight.requires_grad:
        return None
    states: list[Tensor] = []

    def keep(layer: Any, inputs: Any, output: Tensor) -> None:
        states.append(output)

    layers = model.main_layers
    logits = logits_with_hook(objective, rows, [embedding, *layers], keep)
    length = rows.answer.shape[1]
    if len(states) != 1 + len(layers) or states[0].shape[1] != rows.prompt.shape[1] + length - 1:
        return None
    later_tokens = (decision.cumsum(1) > 0) & ~decision
    losses = objective.cross_entropy(logits, rows.answer, "none") / len(rows)
    own, later, whole = (
        torch.autograd.grad(loss, states, retain_graph=True)
        for loss in (losses[decision].sum(), losses[later_tokens].sum(), losses.sum())
    )
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    table = []
    for k, state in enumerate(states):
        # The last layer may return the last positions alone.
        here = F.pad(decision, (state.shape[1] - length, 0))[..., None]
        direct, precached, shared = (
            flat_gradient(state, parameters, gradient)
            for gradient in (own[k] * here, later[k] * here, whole[k] * ~here)
        )
        norms = [part.norm() for part in (direct, precached, shared)]
        table.append(torch.stack([*norms, F.cosine_similarity(direct, precached, dim=0)]))
    return torch.stack(table)


def flat_gradient(
    state: Float[Tensor, "B L D"], parameters: Sequence[Tensor], gradient: Float[Tensor, "B L D"]
) -> Float[Tensor, " N"]:
    """Return the gradient by the parameters below a state, from that by the state, as one vector."""
    parts = torch.autograd.grad(state, parameters, gradient, retain_graph=True, allow_unused=True)
    return torch.cat([part.flatten() for part in parts if part is not None])
