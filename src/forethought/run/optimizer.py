"""AdamW with a schedule counted in steps, and clipping."""

import math
from typing import Annotated, Any, Literal

import lightning.pytorch as pl
import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat
from torch import nn

from forethought.validation import validated_dataclass

Beta = Annotated[float, Field(ge=0, lt=1)]


@validated_dataclass
class AdamW:
    """AdamW (Loshchilov & Hutter, 1711.05101); biases, norms and embeddings take no weight decay.

    Args:
        lr: peak learning rate.
        warmup_steps: linear rise from lr / warmup_steps.
        schedule: after the warm-up, `constant` or `cosine` down to `final_lr_ratio * lr` at max_steps.
        clip_norm: largest L2 norm of the whole gradient; None does not clip.
    """

    lr: PositiveFloat
    betas: Annotated[list[Beta], Field(min_length=2, max_length=2)]
    weight_decay: NonNegativeFloat
    warmup_steps: NonNegativeInt
    schedule: Literal["constant", "cosine"]
    final_lr_ratio: Annotated[float, Field(ge=0, le=1)]
    clip_norm: PositiveFloat | None

    def __call__(self, module: nn.Module, max_steps: int) -> dict[str, Any]:
        """What `LightningModule.configure_optimizers` returns."""
        optimizer = self.optimizer(module)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self.factor(step, max_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def optimizer(self, module: nn.Module) -> torch.optim.Optimizer:
        return self.adamw(*split_by_decay(module))

    def adamw(self, decayed: list[nn.Parameter], others: list[nn.Parameter]) -> torch.optim.AdamW:
        groups = [
            {"params": decayed, "weight_decay": self.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=self.lr, betas=(self.betas[0], self.betas[1]), fused=True)

    def factor(self, step: int, max_steps: int) -> float:
        """Learning rate of optimiser step `step` (from 0), as a multiple of `lr`."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        if self.schedule == "constant":
            return 1.0
        progress = min(1.0, (step - self.warmup_steps) / max(1, max_steps - self.warmup_steps))
        return self.final_lr_ratio + (1 - self.final_lr_ratio) * (1 + math.cos(math.pi * progress)) / 2


class ClipGradients(pl.Callback):
    """Scale the whole gradient down to an L2 norm of at most `norm`.

    Lightning's own clipping refuses the fused optimiser under mixed precision, though bf16 scales nothing.
    """

    def __init__(self, norm: float) -> None:
        self.norm = norm

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.parameters = list(module.parameters())  # once: to find them takes longer than to sum them

    def on_before_optimizer_step(self, trainer: pl.Trainer, module: pl.LightningModule, _: Any) -> None:
        nn.utils.clip_grad_norm_(self.parameters, self.norm)


def split_by_decay(module: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Parameters that take weight decay, and those that do not.

    Biases, norms and embeddings do not, nor what a module names in `no_weight_decay` or, as in mamba-ssm and
    transformers, a parameter is marked by (`_no_weight_decay`; DDP's new processes lose such marks).
    """
    exempt = {
        id(parameter)
        for part in module.modules()
        for name, parameter in part.named_parameters(recurse=False)
        if isinstance(part, nn.Embedding) or name in getattr(part, "no_weight_decay", ())
    }
    decayed: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for parameter in module.parameters():
        if parameter.requires_grad:
            marked = getattr(parameter, "_no_weight_decay", False)
            takes = parameter.ndim >= 2 and id(parameter) not in exempt and not marked
            (decayed if takes else others).append(parameter)
    return decayed, others
