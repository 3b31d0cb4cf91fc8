"""Muon for the matrices inside the network, AdamW for everything else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import torch
from pydantic import Field, PositiveFloat
from torch import nn

from forethought.run.optimizer import AdamW, split_by_decay
from forethought.validation import validated_dataclass


@validated_dataclass
class Muon(AdamW):
    """Muon: momentum whose matrices are made orthogonal before they are applied.

    It updates the matrices that map hidden states to hidden states. Embeddings, output layers (matrices
    with a row for each token), norms and biases are AdamW's, with the fields that they share with it.

    Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024); updates as
    large as AdamW's would be: Liu et al., "Muon is Scalable for LLM Training" (2502.16982), §2.2.

    Args:
        matrix_lr: peak learning rate of the matrices.
        momentum: of the matrices; Nesterov's.
    """

    matrix_lr: PositiveFloat
    momentum: Annotated[float, Field(ge=0, lt=1)]

    def optimizer(self, module: nn.Module) -> torch.optim.Optimizer:
        decayed, others = split_by_decay(module)
        outputs = {id(layer.weight) for layer in output_layers(module)}
        matrices = [p for p in decayed if p.ndim == 2 and id(p) not in outputs]
        chosen = {id(parameter) for parameter in matrices}
        rest = [parameter for parameter in decayed if id(parameter) not in chosen]
        muon = torch.optim.Muon(
            matrices,
            lr=self.matrix_lr,
            weight_decay=self.weight_decay,
            momentum=self.momentum,
            adjust_lr_fn="match_rms_adamw",
        )
        return Both(muon, self.adamw(rest, others))


def output_layers(module: Any) -> list[nn.Linear]:
    """Linear layers right under the objective or its model that have a row for each token."""
    children = [*module.children(), *module.model.children()]
    tokens = len(module.task.vocabulary)
    return [child for child in children if isinstance(child, nn.Linear) and child.out_features == tokens]


class Both(torch.optim.Optimizer):
    """Two optimisers of different parameters as one, so that one schedule and one checkpoint serve."""

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        self.parts = parts
        super().__init__([group for part in parts for group in part.param_groups], {})

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        # Loading replaced the groups of the parts; the schedule must go on moving the same ones.
        self.param_groups = [group for part in self.parts for group in part.param_groups]
