"""Muon for the matrices inside the network, AdamW for everything else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from forethought.models import OutputLayer
from forethought.optimizers.factory import split_by_decay
from forethought.optimizers.orthogonal import OrthogonalMomentum


class Muon(torch.optim.Optimizer):
    """Muon: momentum whose matrices are made orthogonal before they are applied, and AdamW beside it.

    `OrthogonalMomentum` updates the matrices that map hidden states to hidden states. AdamW updates
    embeddings, output layers (`OutputLayer`), norms and biases. Both share one schedule and one checkpoint.

    Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024).
    """

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        self.parts = parts
        super().__init__([group for part in parts for group in part.param_groups], {})

    @classmethod
    def for_module(
        cls,
        module: nn.Module,
        lr: float = 2e-3,
        betas: Sequence[float] = (0.9, 0.999),
        weight_decay: float = 0.1,
        matrix_lr: float = 1e-2,
        momentum: float = 0.95,
        fused: bool = True,
    ) -> Muon:
        """Build Muon around an objective.

        Args:
            lr: peak learning rate of AdamW; `betas` and `fused` are AdamW's too.
            weight_decay: of the matrices and of the output layers.
            matrix_lr: peak learning rate of the matrices.
            momentum: of the matrices; Nesterov's.
        """
        decayed, spared = split_by_decay(module)
        outputs = {id(layer.weight) for layer in module.modules() if isinstance(layer, OutputLayer)}
        inner = {id(p) for p in decayed if p.ndim == 2 and id(p) not in outputs}
        matrices = [p for p in decayed if id(p) in inner]
        muon = OrthogonalMomentum(matrices, matrix_lr, weight_decay, momentum)
        outer = {"params": [p for p in decayed if id(p) not in inner], "weight_decay": weight_decay}
        plain = {"params": spared, "weight_decay": 0.0}
        return cls(muon, torch.optim.AdamW([outer, plain], lr=lr, betas=tuple(betas), fused=fused))  # type: ignore[arg-type]

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
        # Loading replaces the groups of the parts; the schedule must go on moving the same ones.
        self.param_groups = [group for part in self.parts for group in part.param_groups]
