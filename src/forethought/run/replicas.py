"""`replicas=R`: runs that differ in nothing but their seed, trained at once.

Only the training is shared. Each run keeps its own weights, data, clipping, curves and checkpoints, which are
those of a single run; once trained it is run as ever, and finds that nothing is left to do but to test.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import datetime
from typing import Any

import lightning.pytorch as pl
from jaxtyping import Float
from torch import Tensor

from forethought.errors import InputError
from forethought.results import RESULTS_FILE, read_results
from forethought.run.cell import record
from forethought.run.checkpoint import read_checkpoint
from forethought.run.stack import Stack, join, split
from forethought.run.train import Batches, Start, begin, fit
from forethought.sweep import Cell, Locked, lock
from forethought.tasks import Batch


def train_together(cells: Sequence[Cell], finish: Callable[[Cell], None]) -> None:
    """Train cells of which those that differ in nothing but their seed, and are at the same step, go at once.

    They stop whenever one is done or fails; the others go on from the checkpoints that all have just left.

    Args:
        finish: runs one cell by itself; called for each as soon as it is trained. What cannot train here
            (locked, a damaged checkpoint, a loss that is no number) goes on so from its last checkpoint,
            and says itself what is wrong.

    Raises:
        KeyboardInterrupt: after the results files say so.
    """
    left = list(cells)
    try:
        while left:
            with ExitStack() as locks:
                ready = _begin(left, locks)
                abreast = _abreast(ready)
                failed = _train(abreast) if len(abreast) > 1 else [cell.name for cell, _ in abreast]
            together = [cell.name for cell, _ in ready if cell.name not in failed]
            for cell in [cell for cell in left if cell.name not in together]:
                left.remove(cell)
                finish(cell)
    except KeyboardInterrupt:
        for cell in left:
            record(cell, "interrupted", "interrupted by the user")
        raise
    except Exception as error:
        for cell in left:
            record(cell, "failed", f"{type(error).__name__}: {error}".splitlines()[0])
        raise


Ready = list[tuple[Cell, Start]]


def _begin(cells: Sequence[Cell], locks: ExitStack) -> Ready:
    """Of the cells, locked from now on, those that have something left to train."""
    ready = []
    for cell in cells:
        try:
            locks.enter_context(lock(cell.folder))
            results = read_results(cell.folder)
            if results is not None and results.status == "finished":
                continue
            (cell.folder / RESULTS_FILE).unlink(missing_ok=True)
            start = begin(cell.config, cell.folder)
        except (Locked, InputError):
            continue
        if not start.trained:
            ready.append((cell, start))
    return ready


def _abreast(ready: Ready) -> Ready:
    """Cells alike but for their seed, with equally many steps behind them: the fewest of all."""

    def place(cell: Cell, start: Start) -> tuple[int, str]:
        return start.first_step, json.dumps({**cell.config, "seed": None}, sort_keys=True)

    first = min((place(*each) for each in ready), default=None)
    return [each for each in ready if place(*each) == first]


def _train(abreast: Ready) -> list[str]:
    """Train until one is done or has failed; the names of those that failed."""
    cells, starts = [cell for cell, _ in abreast], [start for _, start in abreast]
    replicas = Replicas(starts, cells[0].config["optimizer"]["clip_norm"])
    seeds = ", ".join(str(start.parts.settings.seed) for start in starts)
    _say(starts, f"seeds {seeds} train at once from step {starts[0].first_step}")
    try:
        streams = [Batches(start.data, start.first_step) for start in starts]
        fit(starts[0], replicas, zip(*streams, strict=True))
    except Exception:
        _say(starts, traceback.format_exc())
        raise
    return [cell.name for cell, start in abreast if start in replicas.failed]


def _say(starts: Sequence[Start], text: str) -> None:
    """Into the run.log of each, in the form of a single run's."""
    now = datetime.now().isoformat(" ", "milliseconds").replace(".", ",")
    for start in starts:
        with open(start.folder / "run.log", "a", encoding="utf-8") as file:
            file.write(f"[{now}][INFO] {text}\n")


class Replicas(pl.LightningModule):
    """Runs that are at the same step, as one for Lightning's Trainer.

    Raises (in training):
        RuntimeError: of `Stack`.
    """

    def __init__(self, starts: Sequence[Start], clip_norm: float | None) -> None:
        super().__init__()
        self.starts, self.clip_norm = starts, clip_norm
        self.failed: list[Start] = []
        """Those whose loss became NaN or infinite."""
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
        if not self.starts[0].progress.due(step):
            return
        losses = outputs["losses"].cpu()  # the one time that the device is waited for
        for replica, start in enumerate(self.starts):
            if start in self.failed:
                continue
            self._saving = replica
            start.progress.seed_noise(step - 1)
            objective, own = start.parts.objective, {"loss": losses[replica]}
            try:
                start.progress.on_train_batch_end(self.trainer, objective, own, batches[replica], index)
            except FloatingPointError:
                self.failed.append(start)
        # Not before the others have a checkpoint to go on from.
        evaluated = step % self.starts[0].parts.settings.eval_every == 0
        self.trainer.should_stop |= evaluated and bool(self.failed)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave what a single run of the replica that is being saved would leave."""
        start = self.starts[self._saving]
        weights = start.parts.objective.state_dict()
        checkpoint["state_dict"] = {name: weight.clone() for name, weight in weights.items()}
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
