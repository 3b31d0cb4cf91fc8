"""Momentum whose matrices are made orthogonal before they are applied: the inner half of Muon."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
_EPS = 1e-7


class OrthogonalMomentum(torch.optim.Optimizer):
    """Nesterov momentum of matrices, orthogonalised; the RMS of an update is that of AdamW's, 0.2.

    The updates of `torch.optim.Muon` with `match_rms_adamw`. That computes one matrix at a time and in bf16,
    which on a CPU took a third of a small model's step; here, all matrices of one shape are one batch, in
    the weights' own precision on a CPU. On a GPU it is bf16 in both.

    Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024); the scale: Liu
    et al., "Muon is Scalable for LLM Training" (2502.16982), §2.2.

    Args:
        params: matrices.
        weight_decay: decoupled, as a multiple of `lr`.
    """

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float, weight_decay: float, momentum: float
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.shape].append(parameter)
            for shape, parameters in by_shape.items():
                self._update(parameters, group["lr"] * 0.2 * math.sqrt(max(shape)), group)

    def _update(self, parameters: list[Tensor], lr: float, group: dict[str, Any]) -> None:
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        averages = [
            self.state[parameter].setdefault("momentum_buffer", torch.zeros_like(parameter))
            for parameter in parameters
        ]
        torch._foreach_lerp_(averages, gradients, 1 - group["momentum"])
        ahead = torch.stack(torch._foreach_lerp(gradients, averages, group["momentum"]))
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(parameters, list(orthogonalise(ahead)), alpha=-lr)


def orthogonalise(matrices: Float[Tensor, "N R C"]) -> Float[Tensor, "N R C"]:
    """Bring the singular values of each matrix near 1, by five Newton-Schulz iterations.

    Source: Jordan et al., "Muon" (2024), with its coefficients of a fifth-order polynomial.
    """
    first, second, third = _COEFFICIENTS
    x = matrices if matrices.device.type == "cpu" else matrices.bfloat16()
    if x.shape[1] > x.shape[2]:
        x = x.mT
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=_EPS)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=second, alpha=third), x, beta=first)
    if matrices.shape[1] > matrices.shape[2]:
        x = x.mT
    return x.to(matrices)
