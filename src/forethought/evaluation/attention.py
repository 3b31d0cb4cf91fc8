"""The attention that the decision's position gives to the landmarks of the prompt."""

from __future__ import annotations

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


@torch.no_grad()
def attention_at_decision(objective: Objective, rows: Batch) -> dict[str, Float[Tensor, "K 2"]] | None:
    """Return the attention weight of each landmark (`Task.landmarks`), a row for each of K layers.

    The weight is that of all tokens of the landmark, at the position that predicts the first decision
    token, mean over rows. Column 1 is the mean over heads, column 2 the largest head.

    None where it has no meaning: the objective's logits do not follow the layout of next-token prediction,
    the model has no attention (`attention_weights`) or reads other tokens than prompt and answer, the task
    has no landmarks, or no row has a decision token.

    Args:
        rows: rows without a decision token are left out.
    """
    layers = [layer for layer in objective.model.modules() if hasattr(layer, "attention_weights")]
    rows, decision = decided_rows(objective.task, rows.to(objective.device))
    landmarks = objective.task.landmarks(rows)
    if not (objective.next_token_layout and layers and len(rows) and landmarks):
        return None
    seen: list[Tensor] = []

    def keep(layer: Any, inputs: Any, output: Tensor) -> None:
        weights = layer.attention_weights(*inputs).transpose(1, 2)  # B L H T
        seen.append(weights[F.pad(decision, (weights.shape[1] - decision.shape[1], 0))])

    logits_with_hook(objective, rows, layers, keep)
    length = rows.prompt.shape[1] + rows.answer.shape[1] - 1
    if any(weights.shape[2] != length for weights in seen):
        return None
    weights = torch.stack(seen, 1)[..., : rows.prompt.shape[1]]  # B K H P
    table = {}
    for name, mask in landmarks.items():
        heads = (weights * mask[:, None, None]).sum(3).mean(0)
        table[name] = torch.stack([heads.mean(1), heads.amax(1)], 1)
    return table
