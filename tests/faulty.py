"""Callbacks and others of the tests' own, for processes that are to come to grief."""

import errno
import os
import resource
import signal
import subprocess
import time
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import Logger

from forethought.launchers import Launcher
from forethought.objectives import NextToken


class Faulty(NextToken):
    """Next-token prediction to which something happens in step `at`; or which is slow from then on."""

    def __init__(self, model, task, fault: str, at: int):
        super().__init__(model, task)
        self.fault, self.at, self.steps = fault, at, 0

    def loss(self, batch):
        self.steps += 1
        if self.fault == "slow" and self.steps >= self.at and "HURRY" not in os.environ:
            time.sleep(0.05)
        if self.steps == self.at:
            if self.fault == "slow":
                Path(f"{os.getpid()}").write_text(f"{len(batch)} rows, noise {torch.rand(())}")
                Path(f"{os.getpid()}").rename(f"at-work-{os.getpid()}")
            if self.fault == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.fault == "raises":
                raise ValueError("no luck\nand more")
            if self.fault == "memory":
                torch.empty(10**14)
            if self.fault == "infinite":
                return super().loss(batch) * float("inf")
        return super().loss(batch)


class Logging(NextToken):
    """Next-token prediction that logs two metrics of its own."""

    def loss(self, batch):
        self.log("mine/rows", float(len(batch)))
        return super().loss(batch)

    def diagnostics(self, batch, task):
        return {"mine": torch.full((len(batch),), 3.0)}


class Fault(pl.Callback):
    """Something that happens before batch `at`, or after it (`crash`, weights that go `astray`).

    Before it: a signal, or `service`, which is SIGKILL to the service of W&B.
    """

    def __init__(self, at: int, how: str = "crash"):
        self.at, self.how = at, how

    def now(self, trainer):
        return trainer.fit_loop.epoch_loop.total_batch_idx + 1 == self.at

    def on_train_batch_start(self, trainer, *_):
        if self.how.startswith("SIG") and self.now(trainer):
            os.kill(os.getpid(), signal.Signals[self.how])
        if self.how == "service" and self.now(trainer):
            command = ["pgrep", "-P", str(os.getpid()), "-x", "wandb-core"]
            os.kill(int(subprocess.check_output(command)), signal.SIGKILL)

    def on_train_batch_end(self, trainer, objective, *_):
        if self.how == "crash" and self.now(trainer):
            raise RuntimeError("crash\nand more")
        if self.how == "astray" and self.now(trainer):
            torch.nn.init.constant_(objective.model.embedding.weight, float("nan"))


class FullDisk(pl.Callback):
    """No file grows beyond `room` bytes from saving checkpoint `number` on; if that is 0, after the test."""

    def __init__(self, number: int = 0, room: int = 0):
        self.number, self.room, self.saved = number, room, 0

    def setup(self, *_, **__):
        limit_files(resource.RLIM_INFINITY)

    def on_save_checkpoint(self, trainer, *_):
        if not trainer.global_step:  # before the first step, a checkpoint is tried and not written
            return
        self.saved += 1
        if self.saved == self.number:
            limit_files(self.room)

    def on_test_end(self, *_):
        if not self.number:
            limit_files(self.room)

    def on_exception(self, *_):
        limit_files(resource.RLIM_INFINITY)


def limit_files(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


class Rows(pl.Callback):
    """Writes down the number of validation rows of each rank."""

    def on_validation_batch_start(self, trainer, objective, batch, *_):
        Path(f"rows-{trainer.global_rank}").write_text(f"{len(batch)} of {trainer.world_size}")


class Unlucky(Logger):
    """A logger whose `publish` keeps what results.json says by then, and raises."""

    name, version = "unlucky", ""

    def __init__(self, save_dir: str, error: str):
        super().__init__()
        self.folder, self.error = Path(save_dir), error

    def log_metrics(self, metrics, step=None):
        pass

    def log_hyperparams(self, *_):
        pass

    def publish(self, results):
        (self.folder / "published.json").write_text((self.folder / "results.json").read_text())
        raise {"crash": RuntimeError, "ctrl-c": KeyboardInterrupt}[self.error]("no luck")


class Unable(Launcher):
    """A launcher to whose `run` something outside of the sweep's folder happens."""

    def run(self, cells, on_end):
        match os.environ["UNABLE"]:
            case "socket":
                raise OSError("AF_UNIX path too long")
            case "processes":
                raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
            case "memory":
                raise PermissionError(errno.EACCES, "Permission denied", "/dev/shm/x")
            case "disk":
                raise OSError(errno.ENOSPC, "No space left on device")
