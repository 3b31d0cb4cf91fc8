"""Hooks on a model during one teacher-forced pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from forethought.tasks import Batch

if TYPE_CHECKING:
    from forethought.objectives import Objective


def logits_with_hook(
    objective: Objective, rows: Batch, modules: Iterable[nn.Module], hook: Callable[..., Any]
) -> Float[Tensor, "B A V"]:
    """Return `answer_logits`, with a forward hook on each of the modules, which is then removed."""
    handles = [module.register_forward_hook(hook) for module in dict.fromkeys(modules)]
    try:
        # A compiled graph would not call the hook, or not anew; cuDNN's LSTM has no backward in evaluation.
        with torch.compiler.set_stance("force_eager"), torch.backends.cudnn.flags(enabled=False):
            return objective.answer_logits(rows)
    finally:
        for handle in handles:
            handle.remove()
