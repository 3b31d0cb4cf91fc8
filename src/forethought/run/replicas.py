"""Runs that train at once, as one `LightningModule`; what they leave is what single runs leave."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
from jaxtyping import Float
from torch import Tensor

from forethought.run.checkpoint import read_checkpoint
from forethought.run.stack import Stack, join, split
from forethought.run.train import Start
from forethought.sweep import noted
from forethought.tasks import Batch


class Replicas(pl.LightningModule):
    """Runs that are at the same step, as one for Lightning's Trainer.

    Raises (in training):
        RuntimeError: of `Stack`.
    """

    def __init__(self, starts: Sequence[Start], clip_norm: float | None) -> None:
        super().__init__()
        self.starts, self.clip_norm = starts, clip_norm
        self.failed: set[int] = set()
        """Places of those whose loss became NaN or infinite."""
        self._saving = 0
        device = starts[0].data.device
        for start in starts:
            if start.first_step:
                weights = read_checkpoint(start.checkpoint)["state_dict"]
                start.parts.objective.load_state_dict(weights)
        self.stack = Stack([start.parts.objective.to(device) for start in starts])

    def training_step(self, batches: Sequence[Batch], index: int) -> dict[str, Tensor]:
        losses: Float[Tensor, " R"] = self.stack(batches)
        return {"loss": losses.sum(), "losses": losses.detach()}

    def configure_optimizers(self) -> Any:
        first = self.starts[0].parts.objective
        configured = first.make_optimizer(first, int(self.trainer.max_steps))
        self.stack.optimize(configured["optimizer"])
        return configured

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        if self.clip_norm is not None:
            self.stack.clip_gradients(self.clip_norm)

    def on_train_start(self) -> None:
        for start in self.starts:
            start.progress.on_train_start(self.trainer, start.parts.objective)

    def on_train_batch_end(self, outputs: dict[str, Tensor], batches: Sequence[Batch], index: int) -> None:
        step = self.trainer.global_step
        if not self.starts[0].progress.due(step) and noted() is None:
            return
        losses = outputs["losses"].cpu()  # the one time that the device is waited for
        for replica, start in enumerate(self.starts):
            if replica in self.failed:
                continue
            self._saving = replica
            start.progress.seed_noise(step - 1)
            objective, own = start.parts.objective, {"loss": losses[replica]}
            try:
                start.progress.on_train_batch_end(self.trainer, objective, own, batches[replica], index)
            except FloatingPointError:
                self.failed.add(replica)
        # Not before the others have a checkpoint to go on from.
        evaluated = step % self.starts[0].parts.settings.eval_every == 0
        self.trainer.should_stop |= evaluated and bool(self.failed)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave what a single run of the replica that is being saved would leave."""
        start = self.starts[self._saving]
        weights = checkpoint["state_dict"] = start.parts.objective.state_dict()
        # A view would take the weights of all the others with it.
        weights.update({name: weight.clone() for name, weight in weights.items()})
        checkpoint["optimizer_states"] = [
            split(state, self._saving) for state in checkpoint["optimizer_states"]
        ]
        checkpoint["callbacks"] = {start.progress.state_key: start.progress.state_dict()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Make of the first one's checkpoint that of all."""
        states = [read_checkpoint(start.checkpoint)["optimizer_states"] for start in self.starts]
        checkpoint["state_dict"] = self.state_dict()
        checkpoint["optimizer_states"] = [join(each) for each in zip(*states, strict=True)]
        checkpoint["callbacks"] = {}
