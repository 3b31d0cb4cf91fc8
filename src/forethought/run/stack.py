"""Objectives of one shape as one: their weights stacked, their losses from the same batched kernels."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from forethought.objectives import Objective
from forethought.tasks import Batch


class Stack(nn.Module):
    """R objectives whose weights are slices of the parameters here, and stay so while these are trained.

    Args:
        objectives: with equal shapes, on one device; each sees its own slice from now on.
    """

    def __init__(self, objectives: Sequence[Objective]) -> None:
        super().__init__()
        # Attention on a CPU is done one replica after the other, and no worse for that.
        warnings.filterwarnings("ignore", message="There is a performance drop because we have not yet")
        self.objectives = tuple(objectives)  # no modules of this one: their weights are here already
        weights, self.fixed = stack_module_state(list(objectives))
        self.names = list(weights)
        self.weights = nn.ParameterList(
            nn.Parameter(weight, requires_grad=weight.requires_grad) for weight in weights.values()
        )
        whole = {**dict(zip(self.names, self.weights, strict=True)), **self.fixed}
        for index, objective in enumerate(objectives):
            for name, tensor in [*objective.named_parameters(), *objective.named_buffers()]:
                tensor.data = whole[name].data[index]

    def forward(self, batches: Sequence[Batch]) -> Float[Tensor, " R"]:
        """The loss of each objective on its own batch.

        Raises:
            RuntimeError: by `torch.vmap`, of a loss that draws random numbers, looks at values or calls
                what cannot be batched.
        """
        prompts = torch.stack([batch.prompt for batch in batches])
        answers = torch.stack([batch.answer for batch in batches])
        weights = dict(zip(self.names, self.weights, strict=True))
        losses: Tensor = vmap(self._loss, randomness="error")(weights, self.fixed, prompts, answers)
        return losses

    def _loss(
        self,
        weights: dict[str, Tensor],
        fixed: dict[str, Tensor],
        prompt: Int[Tensor, "B P"],
        answer: Int[Tensor, "B A"],
    ) -> Float[Tensor, ""]:
        with _CrossEntropyInFloat32():
            loss: Tensor = functional_call(self.objectives[0], (weights, fixed), (Batch(prompt, answer),))
        return loss

    def optimize(self, optimizer: torch.optim.Optimizer) -> None:
        """Let an elementwise optimiser of the first objective, before its first step, have all of them."""
        stacked = dict(zip(self.names, self.weights, strict=True))
        own = {id(each): stacked[name] for name, each in self.objectives[0].named_parameters()}
        for group in optimizer.param_groups:
            group["params"] = [own[id(each)] for each in group["params"]]

    @torch.no_grad()
    def clip_gradients(self, norm: float) -> None:
        """Scale the gradient of each objective down to an L2 norm of at most `norm`."""
        gradients = [weight.grad for weight in self.weights if weight.grad is not None]
        norms = torch.linalg.vector_norm(torch.cat([each.flatten(1) for each in gradients], 1), dim=1)
        scale = (norm / (norms + 1e-6)).clamp(max=1)
        for each in gradients:
            each.mul_(scale.view(-1, *[1] * (each.ndim - 1)))


class _CrossEntropyInFloat32(TorchFunctionMode):
    """What autocast does by itself outside `torch.vmap`, which takes cross entropy apart before it can.

    Measured (bf16): without it the losses of replicas differ from those of single runs by 1e-2, with it by
    no more than these from fp32's, 5e-4.
    """

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is F.cross_entropy:
            args = (args[0].float() if args[0].dtype == torch.bfloat16 else args[0], *args[1:])
        return function(*args, **(kwargs or {}))


def join(states: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The state of AdamW over a stack, from those over each of its objectives after as many steps."""
    moments = {
        index: {
            name: value if name == "step" else torch.stack([state["state"][index][name] for state in states])
            for name, value in first.items()
        }
        for index, first in states[0]["state"].items()
    }
    return {**states[0], "state": moments}


def split(state: dict[str, Any], replica: int) -> dict[str, Any]:
    """The state of AdamW over one objective, from that over the stack; the inverse of `join`."""
    moments = {
        index: {name: value if name == "step" else value[replica].clone() for name, value in stacked.items()}
        for index, stacked in state["state"].items()
    }
    return {**state, "state": moments}
