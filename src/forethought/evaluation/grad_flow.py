"""The reach of each answer token's loss back to earlier positions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from forethought.evaluation.hooks import logits_with_hook
from forethought.tasks import Batch

if TYPE_CHECKING:
    from forethought.objectives import Objective


@torch.enable_grad()
def grad_flow(objective: Objective, rows: Batch) -> Float[Tensor, "A T"] | None:
    """Return the norm of the gradient of each answer token's loss by each hidden state, mean over rows.

    The hidden state is the one that enters the first block. Position t of T = P + A - 1 reads prompt
    token t or answer token t - P + 1; answer token i is predicted at position P + i - 1 (all from 1), so
    what stands left of that is what the token asks of earlier positions. Under `Myopic` it is zero.

    None where the map has no meaning: the objective's logits do not follow this layout
    (`next_token_layout`), it reads no answer, its teacher-forced pass reads more than these T tokens or
    reads them more than once, or the model has no `embedding` to hook.

    Source: Wu et al., "Do language models plan ahead for future tokens?" (2404.00859), for the question.

    Args:
        rows: the B rows whose norms are averaged.
    """
    embedding = getattr(objective.model, "embedding", None)
    if not (objective.next_token_layout and objective.teacher_forced and embedding):
        return None
    hidden: list[Tensor] = []

    def enter(block: Any, inputs: Any, output: Tensor) -> Tensor:
        # Positions are added to what is returned here, which changes no gradient.
        hidden.append(output.detach().requires_grad_())
        return hidden[-1]

    rows = rows.to(objective.device)
    logits = logits_with_hook(objective, rows, [embedding], enter)
    if [state.shape[1] for state in hidden] != [rows.prompt.shape[1] + rows.answer.shape[1] - 1]:
        return None
    losses = F.cross_entropy(logits.transpose(1, 2), rows.answer, reduction="none").sum(0)
    maps = [torch.autograd.grad(loss, hidden, retain_graph=True)[0].norm(dim=2).mean(0) for loss in losses]
    return torch.stack(maps)
