"""A training step's loss and gradients as one CUDA graph, launched at once instead of kernel by kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from forethought.tasks import Batch

Rows = Batch | Sequence[Batch]

_WARM_UP = 3  # steps before the capture: libraries choose their kernels in them, and allocate


class CaptureGradients(pl.Callback):
    """Records `training_step` and its backward pass once, and replays both from then on.

    What a small model's kernels compute takes a GPU less time than the host needs to launch them. Drawing
    rows, clipping and the optimiser stay outside: a few launches, and any optimiser will do. Noise is drawn
    anew in every replay, from the generator as it is seeded by then.

    Source: PyTorch's notes on CUDA semantics, "CUDA Graphs".

    Args:
        rows: what a step is given; every step is given tensors of these shapes.

    Raises (at the start of training):
        RuntimeError: by CUDA, of a step that asks the device for a value.
    """

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        current, aside = torch.cuda.current_stream(), torch.cuda.Stream()
        aside.wait_stream(current)
        with trainer.precision_plugin.train_step_context():
            with torch.cuda.stream(aside):
                for _ in range(_WARM_UP):
                    _gradients(module, self.rows)
            current.wait_stream(aside)
            torch.clear_autocast_cache()  # or the graph would read the weights as they were cast just now
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self.outputs = _gradients(module, self.rows)
        # Of what Lightning does between this step and the optimiser's nothing is left to be done.
        module.training_step = self.replay
        module.backward = module.optimizer_zero_grad = _nothing

    def replay(self, rows: Rows, index: int) -> Any:
        """Stands for `training_step`; the gradients are in place when it returns."""
        for own, given in zip(_tensors(self.rows), _tensors(rows), strict=True):
            own.copy_(given)
        self.graph.replay()
        return self.outputs

    def teardown(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str) -> None:
        for name in ("training_step", "backward", "optimizer_zero_grad"):
            vars(module).pop(name, None)


def _gradients(module: pl.LightningModule, rows: Rows) -> Any:
    module.zero_grad(set_to_none=True)  # the backward pass makes new ones: those of the capture stay
    outputs = module.training_step(rows, 0)
    (outputs["loss"] if isinstance(outputs, dict) else outputs).backward()
    return outputs


def _nothing(*_: Any) -> None:
    pass


def _tensors(rows: Rows) -> list[Tensor]:
    batches = [rows] if isinstance(rows, Batch) else rows
    return [tensor for batch in batches for tensor in (batch.prompt, batch.answer)]
