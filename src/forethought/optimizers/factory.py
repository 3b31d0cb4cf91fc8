"""Build any optimizer with decay groups, a schedule counted in steps, and clipping."""

from __future__ import annotations

import inspect
import itertools
import math
from typing import Annotated, Any, Literal

import lightning.pytorch as pl
import torch
from pydantic import ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, TypeAdapter
from torch import nn
from typing_extensions import TypedDict

from forethought.errors import InputError
from forethought.validation import validated_dataclass

Beta = Annotated[float, Field(ge=0, lt=1)]


class _KnownOptions(TypedDict, total=False):
    """Ranges of the options that most optimizers share; PyTorch checks them late and not for their type."""

    __pydantic_config__ = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)  # type: ignore[misc]

    lr: PositiveFloat
    betas: Annotated[list[Beta], Field(min_length=2, max_length=2)]
    weight_decay: NonNegativeFloat
    momentum: Beta
    matrix_lr: PositiveFloat


@validated_dataclass
class OptimizerFactory:
    """An optimizer to be built around a module.

    Weight decay spares biases, norms and embeddings (`split_by_decay`), whatever the optimizer.

    Args:
        kind: the optimizer class. If it has a classmethod `for_module(module, **options)`, that builds it.
        options: arguments of its constructor. The default is for AdamW, faster than PyTorch's own.
        warmup_steps: linear rise from lr / warmup_steps.
        schedule: after the warm-up, `constant` or `cosine` down to `final_lr_ratio * lr` at max_steps.
        clip_norm: largest L2 norm of the whole gradient; None does not clip.

    Raises:
        InputError: an option that the optimizer lacks or rejects.
    """

    kind: type[torch.optim.Optimizer] = torch.optim.AdamW
    options: dict[str, Any] = Field(default_factory=lambda: {"fused": True})
    warmup_steps: NonNegativeInt = 100
    schedule: Literal["constant", "cosine"] = "constant"
    final_lr_ratio: Annotated[float, Field(ge=0, le=1)] = 0.1
    clip_norm: PositiveFloat | None = 1.0

    def __post_init__(self) -> None:
        TypeAdapter(_KnownOptions).validate_python(self.options)

    def __call__(self, module: nn.Module, max_steps: int) -> dict[str, Any]:
        """Return what `LightningModule.configure_optimizers` may return."""
        optimizer = self.build(module)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self.factor(step, max_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def build(self, module: nn.Module) -> torch.optim.Optimizer:
        try:
            if hasattr(self.kind, "for_module"):
                optimizer: torch.optim.Optimizer = self.kind.for_module(module, **self.options)
            elif "weight_decay" in inspect.signature(self.kind).parameters:
                optimizer = self.kind(self._decay_groups(module), **self.options)
            else:
                optimizer = self.kind([p for p in module.parameters() if p.requires_grad], **self.options)
        except (TypeError, ValueError, RuntimeError) as error:
            if any(parameter.is_meta for parameter in module.parameters()):
                raise  # perhaps for the missing values; `check` then builds it on a real device
            said = " ".join(str(error).split())
            raise InputError(
                f"optimizer: {self.kind.__name__} rejects its options ({said}); change them"
            ) from None
        return optimizer

    def _decay_groups(self, module: nn.Module) -> list[dict[str, Any]]:
        decayed, spared = split_by_decay(module)
        return [{"params": decayed}, {"params": spared, "weight_decay": 0.0}]

    def factor(self, step: int, max_steps: int) -> float:
        """Return the learning rate of optimiser step `step` (from 0) as a multiple of `lr`."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        if self.schedule == "constant" or max_steps < 0:
            return 1.0
        progress = min(1.0, (step - self.warmup_steps) / max(1, max_steps - self.warmup_steps))
        return self.final_lr_ratio + (1 - self.final_lr_ratio) * (1 + math.cos(math.pi * progress)) / 2


OPTIONS_OF_FACTORY = frozenset(inspect.signature(OptimizerFactory).parameters) - {"kind", "options"}
"""Keys of an optimizer's YAML file that the factory takes itself; all others go to the optimizer."""


class ClipGradients(pl.Callback):
    """Scale the whole gradient down to an L2 norm of at most `norm`.

    Lightning's own clipping refuses the fused optimizer under mixed precision, though bf16 scales nothing.
    """

    def __init__(self, norm: float) -> None:
        self.norm = norm

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.parameters = list(module.parameters())  # once: listing them takes longer than summing them

    def on_before_optimizer_step(self, trainer: pl.Trainer, module: pl.LightningModule, _: Any) -> None:
        nn.utils.clip_grad_norm_(self.parameters, self.norm)


def split_by_decay(module: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Split the trainable parameters into those that take weight decay and those that do not.

    Spared are biases, norms and embeddings, the names in a module's `no_weight_decay`, and parameters with
    the mark of mamba-ssm and transformers (`_no_weight_decay`).
    """
    spared = {
        id(parameter)
        for part in module.modules()
        for name, parameter in part.named_parameters(recurse=False)
        if isinstance(part, nn.Embedding) or name in getattr(part, "no_weight_decay", ())
    }

    def takes_decay(parameter: nn.Parameter) -> bool:
        marked = getattr(parameter, "_no_weight_decay", False)
        return parameter.ndim >= 2 and id(parameter) not in spared and not marked

    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return list(filter(takes_decay, trainable)), list(itertools.filterfalse(takes_decay, trainable))
