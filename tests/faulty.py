"""An objective of the tests' own, for processes that are to come to grief."""

import os
import signal
import time
from pathlib import Path

import torch

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
                Path(f"{os.getpid()}").write_text(f"{len(batch)} rows")
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
