"""The rows of one run: training, validation and test, each a pure function of (seed, step)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from functools import cached_property

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from forethought.errors import InputError
from forethought.tasks.base import Batch, Task

# One row in sixteen is set aside for the test, one for validation.
_PARTITIONS, _TEST, _VALIDATION = 16, 0, 1


def derive(seed: int, *path: str | int) -> int:
    """A 63-bit seed for one named stream of one run; streams never overlap or depend on order."""
    name = "/".join(map(str, (seed, *path)))
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") >> 1


def held_out(task: Task, rows: Batch) -> Bool[Tensor, " B"]:
    """Rows that no run of this task trains on, whatever its seed."""
    partition = task.fingerprint(rows) % _PARTITIONS
    return (partition == _TEST) | (partition == _VALIDATION)


class Data:
    """Rows of `task` for the run with this `seed`.

    Training rows never share a fingerprint with validation or test rows, by construction: the
    fingerprint's residue decides where a row may occur, and the rows of a test file are excluded from
    training one by one. Because batch `step` depends on nothing but (seed, step), a resumed run sees
    what an undisturbed one would have seen. Fresh training rows are drawn on `device`; validation, test
    and fixed training rows are the same on every device.

    Raises:
        InputError: when rows are asked for: a file that the task cannot read, or a task with too few
            rows to hold any out or to train on.
    """

    def __init__(self, task: Task, seed: int, batch_size: int, device: torch.device | str = "cpu") -> None:
        self.task, self.seed, self.batch_size, self.device = task, seed, batch_size, device
        self._epoch, self._order = -1, torch.empty(0)

    def on(self, device: torch.device | str) -> Data:
        return Data(self.task, self.seed, self.batch_size, device)

    def batch(self, step: int) -> Batch:
        """The `batch_size` training rows of one step (all of the fixed rows, if they are fewer)."""
        if self._fixed is None:
            return self._draw(self.batch_size, self._generator(self.device, "train", step))
        per_epoch = max(1, len(self._fixed) // self.batch_size)
        epoch, place = divmod(step, per_epoch)
        rows = self._shuffled(epoch)[place * self.batch_size : (place + 1) * self.batch_size]
        return self._fixed[rows]

    def validation(self, count: int) -> Batch:
        return self._set_aside("validation", _VALIDATION, count).to(self.device)

    def test(self, count: int) -> Batch:
        """The test file's rows (all of them), or `count` fresh ones."""
        rows = self._test_file or self._set_aside("test", _TEST, count)
        return rows.to(self.device)

    @cached_property
    def _test_file(self) -> Batch | None:
        return None if self.task.test_file is None else self._read("test_file")

    def _read(self, key: str) -> Batch:
        try:
            return self.task.read(getattr(self.task, key))
        except InputError as error:
            raise InputError(f"task.{key}={error}") from None

    @cached_property
    def _excluded(self) -> Int[Tensor, " X"] | None:
        """Fingerprints of the test file, sorted."""
        if self._test_file is None:
            return None
        return self.task.fingerprint(self._test_file).sort()[0].to(self.device)

    def _generator(self, device: torch.device | str, *stream: str | int) -> torch.Generator:
        return torch.Generator(device).manual_seed(derive(self.seed, *stream))

    def _trainable(self, rows: Batch) -> Bool[Tensor, " B"]:
        allowed = ~held_out(self.task, rows)
        if self._excluded is not None:
            fingerprint = self.task.fingerprint(rows)
            excluded = self._excluded.to(fingerprint.device)
            place = torch.searchsorted(excluded, fingerprint).clamp(max=len(excluded) - 1)
            allowed &= excluded[place] != fingerprint  # not `isin`, for which a GPU is waited for
        return allowed

    def _draw(self, count: int, generator: torch.Generator) -> Batch:
        drawn = self._sample(count, generator)
        return _first(count, drawn, self._trainable(drawn))

    def _sample(self, count: int, generator: torch.Generator) -> Batch:
        """So many rows (8 sigma) that nobody need count on the device whether `count` may be trained on."""
        spare = 8 * math.sqrt(count * (1 - self._acceptance)) + 8
        return self.task.sample(math.ceil((count + spare) / self._acceptance), generator, generator.device)

    @cached_property
    def _acceptance(self) -> float:
        """The share of draws that may be trained on."""
        rows = self.task.sample(4096, self._generator("cpu", "rate"))
        rate = self._trainable(rows).double().mean().item()
        if rate < 0.01:
            raise InputError(
                f"task.test_file={self.task.test_file}: (nearly) every instance of this task is held out, "
                "nothing is left to train on; expected a larger task or a smaller file"
            )
        return rate

    @cached_property
    def _fixed(self) -> Batch | None:
        task = self.task
        if task.train_file is not None:
            rows = self._read("train_file")
            rows = rows[self._trainable(rows)]
            if not len(rows):
                raise InputError(
                    f"task.train_file={task.train_file}: every row is held out for the test; "
                    "expected some that are not"
                )
            return rows[: task.train_samples].to(self.device)
        if task.train_samples is not None:
            return self._draw(task.train_samples, self._generator("cpu", "train")).to(self.device)
        return None

    def _shuffled(self, epoch: int) -> Int[Tensor, " X"]:
        if epoch != self._epoch:
            assert self._fixed is not None
            order = torch.randperm(len(self._fixed), generator=self._generator("cpu", "epoch", epoch))
            self._epoch, self._order = epoch, order.to(self.device)
        return self._order

    def _set_aside(self, stream: str, partition: int, count: int) -> Batch:
        generator = self._generator("cpu", stream)
        found: list[Batch] = []
        for _ in range(8 + 4 * _PARTITIONS):
            rows = self.task.sample(max(1024, count), generator)
            found.append(rows[self.task.fingerprint(rows) % _PARTITIONS == partition])
            if sum(map(len, found)) >= count:
                prompt = torch.cat([rows.prompt for rows in found])
                return Batch(prompt, torch.cat([rows.answer for rows in found]))[:count]
        raise InputError(
            "task: too few different instances to hold any out for the test; expected a larger task"
        )


def batches(runs: Sequence[Data], step: int) -> list[Batch]:
    """`Data.batch` of runs that differ in nothing but their seed.

    Which of the rows may be trained on is found out at once: on a GPU it costs more than to draw them.
    """
    one = runs[0]
    if one._fixed is not None:
        return [run.batch(step) for run in runs]
    drawn = [run._sample(run.batch_size, run._generator(run.device, "train", step)) for run in runs]
    rows = Batch(torch.cat([each.prompt for each in drawn]), torch.cat([each.answer for each in drawn]))
    trainable = one._trainable(rows).split([len(each) for each in drawn])
    return [_first(one.batch_size, each, own) for each, own in zip(drawn, trainable, strict=True)]


def _first(count: int, drawn: Batch, trainable: Bool[Tensor, " B"]) -> Batch:
    """The first `count` rows that may be trained on."""
    first = trainable.int().argsort(dim=0, descending=True, stable=True)[:count]
    # Should they ever not suffice, a training row is repeated: a test row never comes in.
    return drawn[torch.where(trainable[first], first, first[0])]
