"""Rows of one run: training, validation and test batches, each a pure function of (seed, step)."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from forethought.errors import InputError
from forethought.tasks.base import TEST, TRAIN, VALIDATION, Batch, Task
from forethought.tasks.draw import Draws

_CHUNK = 4096
"""Most rows drawn at a time: bounds the memory, and stays within the cache of a CPU."""

_EVALUATION_ROWS, _LOGITS = 2000, 1 << 25
"""Most rows of one validation or test batch, and most logits of its answers: 0.3 GB in float64."""

_PATIENCE = 72
"""Most rows drawn for each row that is set aside."""

_FILES = 4
"""Most files of rows that a process keeps. 200,000 graphs of 30 tokens take 50 MB."""


def held_out(task: Task, rows: Batch) -> Bool[Tensor, " B"]:
    """Return a mask of the rows that no run of this task trains on, whatever its seed."""
    return task.part(rows) != TRAIN


def evaluation_rows(task: Task) -> int:
    """Return how many rows are evaluated at a time: fewer with a large vocabulary."""
    return max(1, min(_EVALUATION_ROWS, _LOGITS // (task.answer_length * len(task.vocabulary))))


class Data:
    """Rows of `task` for the run with this `seed`, drawn on `device`.

    Rows do not depend on the device. Training rows never share a fingerprint with validation or test
    rows: the residue of the fingerprint decides the part in which a row may occur, and the rows of a
    test file are excluded from training one by one. Batch `step` depends only on (seed, step), so that a
    resumed run sees the batches of an undisturbed one.

    Raises:
        InputError: when rows are requested, if a file cannot be read, or if the task has too few rows to
            hold any out or to train on.
    """

    def __init__(self, task: Task, seed: int, batch_size: int, device: torch.device | str = "cpu") -> None:
        self.task, self.seed, self.batch_size, self.device = task, seed, batch_size, device
        self._epoch, self._order = -1, torch.empty(0)

    def on(self, device: torch.device | str) -> Data:
        return Data(self.task, self.seed, self.batch_size, device)

    def batch(self, step: int) -> Batch:
        """Return the `batch_size` training rows of one step, or all fixed rows if they are fewer."""
        if self.training_set is None:
            return self._draw(self.batch_size, self._draws("train", step))
        per_epoch = max(1, len(self.training_set) // self.batch_size)
        epoch, place = divmod(step, per_epoch)
        rows = self._shuffled(epoch)[place * self.batch_size : (place + 1) * self.batch_size]
        return self.training_set[rows]

    def describe_train_file(self) -> str:
        """Return how many rows of the training file are trained on, in a line. Empty if there is no file."""
        if self.task.train_file is None or self.training_set is None:
            return ""
        return (
            f"task.train_file={self.task.train_file}: {len(self.training_set)} rows to train on; "
            f"{self._set_aside_of_file} rows set aside, as they are held out for validation or test"
        )

    def validation(self, count: int) -> Batch:
        return self._select("validation", count, lambda rows: self.task.part(rows) == VALIDATION)

    def test(self, count: int) -> Batch:
        """Return all rows of the test file, or `count` fresh rows if there is no test file."""
        fresh = self._test_file or self.task.sample_test(count, self._draws("test"))
        return fresh or self._select("test", count, lambda rows: self.task.part(rows) == TEST)

    def probe(self, count: int) -> Batch:
        """Return `count` fresh rows to fit probes on: distributed as test rows, and none of them."""
        return self._select("probe", count, self._trainable)

    @cached_property
    def _test_file(self) -> Batch | None:
        return None if self.task.test_file is None else self._read("test_file")

    def _read(self, key: str) -> Batch:
        try:
            return _read_once(self.task, getattr(self.task, key)).to(self.device)
        except InputError as error:
            raise InputError(f"task.{key}={error}") from None

    @cached_property
    def _excluded(self) -> Int[Tensor, " X"] | None:
        """Sorted fingerprints of the test file."""
        return None if self._test_file is None else self.task.fingerprint(self._test_file).sort()[0]

    def _draws(self, *stream: str | int) -> Draws:
        return Draws(self.seed, *stream, device=self.device)

    def _trainable(self, rows: Batch) -> Bool[Tensor, " B"]:
        allowed = ~held_out(self.task, rows)
        if self._excluded is not None:
            fingerprint = self.task.fingerprint(rows)
            # Not `isin`, which waits for the GPU.
            excluded = self._excluded.to(fingerprint.device)
            place = torch.searchsorted(excluded, fingerprint).clamp(max=len(excluded) - 1)
            allowed &= excluded[place] != fingerprint
        return allowed

    def _draw(self, count: int, draws: Draws) -> Batch:
        """Draw `count` trainable rows without a device sync.

        Over-sample by 8 standard deviations. Counting the trainable rows would wait for the GPU.
        """
        spare = 8 * math.sqrt(count * (1 - self._acceptance)) + 8
        total = math.ceil((count + spare) / self._acceptance)
        counts = (min(_CHUNK, total - first) for first in range(0, total, _CHUNK))
        drawn = _concatenate([self.task.sample_training(rows, draws) for rows in counts])
        trainable = self._trainable(drawn)
        first = trainable.int().argsort(dim=0, descending=True, stable=True)[:count]
        # Should the trainable rows ever be too few, repeat the first one: a test row never comes in.
        return drawn[torch.where(trainable[first], first, first[0])]

    @cached_property
    def _acceptance(self) -> float:
        """Share of the drawn rows that are trainable, estimated on the CPU: a step never waits for a GPU."""
        rows = self.task.sample_training(_CHUNK, Draws(self.seed, "rate"))
        rate = self._trainable(rows).double().mean().item()
        if rate < 0.01:
            raise InputError(
                f"task.test_file={self.task.test_file}: more than 99 % of the task's instances are held out, "
                "nothing is left to train on; use a larger task or a smaller file"
            )
        return rate

    @cached_property
    def training_set(self) -> Batch | None:
        """The fixed training rows; None if every step draws fresh ones."""
        task = self.task
        if task.train_file is not None:
            rows = self._read("train_file")
            trainable = self._trainable(rows)
            self._set_aside_of_file = int((~trainable).sum())
            if not trainable.any():
                raise InputError(
                    f"task.train_file={task.train_file}: every row is held out for validation or test; "
                    "add other rows"
                )
            return rows[trainable][: task.train_samples]
        if task.train_samples is not None:
            return self._draw(task.train_samples, self._draws("train"))
        return None

    def _shuffled(self, epoch: int) -> Int[Tensor, " X"]:
        if epoch != self._epoch:
            assert self.training_set is not None
            self._epoch = epoch
            self._order = self._draws("epoch", epoch).permutation(1, len(self.training_set))[0]
        return self._order

    def _select(self, stream: str, count: int, accepts: Callable[[Batch], Bool[Tensor, " B"]]) -> Batch:
        """Draw until `count` rows are accepted. The rows are a prefix of those of a larger count."""
        draws, found, missing = self._draws(stream), list[Batch](), count
        for _ in range(0, _PATIENCE * max(_CHUNK, count), _CHUNK):
            rows = self.task.sample(_CHUNK, draws)
            found.append(rows[accepts(rows)])
            missing -= len(found[-1])
            if missing <= 0:
                return _concatenate(found)[:count]
        raise InputError("task: too few different instances to hold any out for the test; use a larger task")


_read_before: dict[tuple[object, ...], Batch] = {}


def _read_once(task: Task, path: str) -> Batch:
    """Read a file of rows, once a process as long as it is unchanged."""
    if not os.path.isfile(path):
        return task.read(path)
    file = os.stat(path)
    form = {key: value for key, value in vars(task).items() if key not in Task.__dataclass_fields__}
    key = (type(task), repr(form), os.path.abspath(path), file.st_mtime_ns, file.st_size, file.st_ino)
    if key not in _read_before:
        if len(_read_before) >= _FILES:
            del _read_before[next(iter(_read_before))]  # the oldest: a run alternates between two
        _read_before[key] = task.read(path)
    return _read_before[key]


def _concatenate(batches: Sequence[Batch]) -> Batch:
    if len(batches) == 1:
        return batches[0]
    prompt = torch.cat([rows.prompt for rows in batches])
    return Batch(prompt, torch.cat([rows.answer for rows in batches]))
