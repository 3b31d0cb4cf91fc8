"""Lightning data module of a task."""

import itertools
import math
from collections import UserList
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

import lightning.pytorch as pl
from pydantic import Field

from forethought.tasks.base import Batch, Task
from forethought.tasks.data import Data, evaluation_rows
from forethought.validation import validated

Count = Annotated[int, Field(gt=0)]


class TaskData(pl.LightningDataModule):
    """Training, validation and test batches of `task`, drawn on the trainer's device.

    Training data has no end. An epoch is `steps_per_epoch` optimiser steps, so that Lightning validates
    every `steps_per_epoch` steps. Batches are a function of (seed, step): a run that resumes within an
    epoch or between two epochs sees the batches of an undisturbed run. Under DDP, each rank takes every
    `world_size`-th row of each batch.

    The loaders are plain iterables. A `DataLoader` would draw a number from torch's global generator
    at each epoch, warn about its missing workers, and have its validation rows split a second time by
    Lightning under DDP.

    Args:
        task: samples the rows.
        batch_size: training rows of one batch, over all ranks.
        seed: of the training, validation and test rows.
        validation_samples: number of validation rows.
        test_samples: number of test rows, if the task has no test file.
        steps_per_epoch: optimiser steps of one epoch.
        draw_ahead: draw each training batch in a thread, while the one before it is trained on. The rows are
            the same; it gains where a CPU core is idle.
    """

    @validated
    def __init__(
        self,
        task: Task,
        batch_size: Count = 64,
        seed: int = 0,
        validation_samples: Count = 1000,
        test_samples: Count = 10_000,
        steps_per_epoch: Count = 250,
        draw_ahead: bool = False,
    ) -> None:
        super().__init__()
        self.seed = seed
        self.validation_samples, self.test_samples = validation_samples, test_samples
        self.steps_per_epoch, self.draw_ahead = steps_per_epoch, draw_ahead
        self._data = Data(task, seed, batch_size)

    @property
    def data(self) -> Data:
        """Rows on the device of the trainer, or on the CPU if there is no trainer."""
        device = self.trainer.strategy.root_device if self.trainer else "cpu"
        if self._data.device != device:
            self._data = self._data.on(device)
        return self._data

    @property
    def batches_seen(self) -> int:
        """Number of batches trained on so far. Lightning restores it before it asks for a loader."""
        return self.trainer.fit_loop.epoch_loop.batch_progress.total.processed if self.trainer else 0

    def train_dataloader(self) -> Iterable[Batch]:
        return _Epoch(self)

    def val_dataloader(self) -> Iterable[Batch]:
        return self._chunks(self.data.validation(self.validation_samples))

    def test_dataloader(self) -> Iterable[Batch]:
        return self._chunks(self.data.test(self.test_samples))

    def _ranks(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _epoch(self) -> Iterator[Batch]:
        rank, world_size = self._ranks()
        accumulate = self.trainer.accumulate_grad_batches if self.trainer else 1
        max_steps = self.trainer.max_steps if self.trainer else -1
        first, per_epoch = self.batches_seen, self.steps_per_epoch * accumulate
        end = (first // per_epoch + 1) * per_epoch
        if max_steps != -1:
            end = min(end, max_steps * accumulate)
        draw = _draw_ahead if self.draw_ahead else map
        for rows in draw(self.data.batch, range(first, end)):
            yield rows[rank::world_size]

    def _chunks(self, rows: Batch) -> UserList[Batch]:
        """Split this rank's share of `rows`. All ranks get equally many chunks."""
        rank, world_size = self._ranks()
        count = math.ceil(len(rows) / (evaluation_rows(self._data.task) * world_size))
        bounds = itertools.pairwise(len(rows) * chunk // count for chunk in range(count + 1))
        # Not a list: Lightning takes the elements of a list for loaders.
        return UserList(rows[first:last][rank::world_size] for first, last in bounds)


def _draw_ahead(batch: Callable[[int], Batch], steps: range) -> Iterator[Batch]:
    """Yield the batch of each step. The next one is drawn in a thread meanwhile, and no other."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        ahead = [thread.submit(batch, step) for step in steps[:1]]
        for step in steps[1:]:
            rows = ahead.pop().result()
            ahead.append(thread.submit(batch, step))
            yield rows
        yield from (last.result() for last in ahead)


class _Epoch:
    """Batches of the current epoch. It has no length, because the last epoch may be shorter."""

    def __init__(self, data: TaskData) -> None:
        self.data = data

    def __iter__(self) -> Iterator[Batch]:
        return self.data._epoch()
