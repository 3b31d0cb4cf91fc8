"""The training loop of `forethought train`, without Lightning: what is compared with the others."""

from __future__ import annotations

import lightning.pytorch as pl
import torch
from forethought.run.cuda_graph import CaptureGradients, Rows

from forethought.config import Composer
from forethought.hardware import Hardware
from forethought.tasks import Data
from forethought.training import build

G25 = ["task.degree=2", "task.path_length=5", "task.num_nodes=50"]


class OurLoop:
    """The arithmetic of a run, with what `hardware` picks by itself.

    Args:
        words: of the command line.
    """

    def __init__(self, *words: str) -> None:
        (cell,) = Composer(["seed=0", *words]).cells()
        parts = build(cell.config)
        self.choice, self.hardware = parts.hardware_choice, parts.hardware
        self.device = torch.device(self.hardware.device)
        self.objective = parts.objective.to(self.device)
        if self.hardware.compile:
            self.objective.model.compile()
        self.data = Data(parts.task, 0, parts.settings.batch_size, self.hardware.device)
        self.optimizer = self.objective.make_optimizer(self.objective, 10_000)["optimizer"]
        self.done = 0
        if self.hardware.cuda_graph:
            capture(self.hardware, self.objective, self.data.batch(0))

    def step(self) -> None:
        rows = self.data.batch(self.done)
        if self.hardware.cuda_graph:
            self.objective.training_step(rows, self.done)
        else:
            self.optimizer.zero_grad()
            bf16 = self.hardware.precision == "bf16"
            with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
                loss = self.objective.loss(rows)
            loss.backward()
        torch.nn.utils.clip_grad_norm_(self.objective.parameters(), 1.0, foreach=True)
        self.optimizer.step()
        self.done += 1

    def steps(self, count: int) -> None:
        self.hardware.limit_threads()
        for _ in range(count):
            self.step()


def capture(hardware: Hardware, module: pl.LightningModule, rows: Rows) -> None:
    """From now on `training_step` replays a CUDA graph of itself, and leaves the gradients."""
    trainer = pl.Trainer(**hardware.trainer_arguments(), logger=False, enable_checkpointing=False)
    CaptureGradients(rows).on_train_start(trainer, module)


def gpt(layers: int, width: int, heads: int) -> list[str]:
    return [f"model.layers={layers}", f"model.width={width}", f"model.heads={heads}"]
