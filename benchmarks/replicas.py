"""Time of a training step of R replicas at once, against that of a single run.

`python benchmarks/replicas.py 1,4,16 model.layers=4 …` takes how many replicas, then words of `forethought
train`. On a GPU where there is one. Data and clipping count, Lightning and evaluations do not.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from functools import partial

import lightning.pytorch as pl
import torch
from measuring import Section, ratios, spread, table, take_turns
from ours import capture
from torch import Tensor, nn

from forethought.cli.compose import Composer
from forethought.run import build
from forethought.run.cuda_graph import Rows
from forethought.run.stack import Stack
from forethought.tasks import Data, batches

COUNTS, ROUNDS, STEPS = (1, 4, 16), 7, 10
PLAIN = ["hardware=auto", "hardware.precision=fp32", "hardware.compile=false", "hardware.threads=1"]
SIZES = [
    "model.layers=2 model.width=64 model.heads=2 batch_size=16",
    "model.layers=2 model.width=64 model.heads=2 batch_size=64",
]
GPU_SIZE = "model.layers=4 model.width=128 model.heads=4 batch_size=64 hardware=gpu hardware.compile=false"


class Losses(pl.LightningModule):
    """The sum of the losses of a stack, or the loss of an objective."""

    def __init__(self, losses: nn.Module) -> None:
        super().__init__()
        self.losses = losses

    def training_step(self, rows: Rows, index: int) -> Tensor:
        total: Tensor = self.losses(rows).sum()
        return total


def trainee(words: list[str], replicas: int | None) -> Callable[[int], None]:
    """The training loop of a stack, or of a single run, without Lightning; it takes a number of steps."""
    config = Composer([*PLAIN, *words]).cells()[0].config
    parts = [build({**config, "seed": seed}) for seed in range(replicas or 1)]
    hardware, rows = parts[0].hardware, parts[0].settings.batch_size
    hardware.limit_threads()
    objectives = [each.objective.to(hardware.device) for each in parts]
    runs = [Data(each.task, each.settings.seed, rows, hardware.device) for each in parts]
    optimizer = objectives[0].make_optimizer(objectives[0], 1000)["optimizer"]
    stack = Stack(objectives) if replicas else None
    if stack:
        stack.optimize(optimizer)
    module = Losses(stack or objectives[0])

    def drawn(step: int) -> Rows:
        return batches(runs, step) if stack else runs[0].batch(step)

    if hardware.cuda_graph:
        capture(hardware, module, drawn(0))

    def train(steps: int) -> None:
        for step in range(steps):
            loss = module.training_step(drawn(step), step)
            if not hardware.cuda_graph:
                optimizer.zero_grad()
                loss.backward()
            if stack:
                stack.clip_gradients(1.0)
            else:
                torch.nn.utils.clip_grad_norm_(objectives[0].parameters(), 1.0)
            optimizer.step()

    return train


def compare(counts: list[int], words: list[str]) -> tuple[list[list[object]], dict[int, float]]:
    """A row for a single run and one for each number of replicas; and each one's cost in single runs."""
    calls = {count: partial(trainee(words, count), STEPS) for count in (None, *counts)}
    take_turns(calls, 1)
    seconds = take_turns(calls, ROUNDS)
    cost = {count: ratios(found, seconds[None]) for count, found in seconds.items()}
    rows = [
        [
            " ".join(words),
            f"{count} at once" if count else "one run",
            f"{1000 / STEPS * statistics.median(found):.1f}",
            spread(cost[count]),
            f"{cost[count][0] / (count or 1):.2f}",
        ]
        for count, found in seconds.items()
    ]
    return rows, {count: middle for count, (middle, _, _) in cost.items() if count}


HEADER = ["model", "", "seconds per 1,000 steps", "times one run (least to most)", "of which each"]


def measure() -> Section:
    rows, figures = [], {}
    for size in SIZES:
        rows += compare(list(COUNTS), size.split())[0]
    if torch.cuda.is_available():
        for graph in ("false", "true"):
            more, cost = compare(list(COUNTS), [*GPU_SIZE.split(), f"hardware.cuda_graph={graph}"])
            rows, figures = rows + more, {"replicas_16_cost": round(cost[16], 3)}
    return Section(
        "Replicas: a training step of several seeds at once, as a multiple of one's",
        "Next-token prediction on G(2,4). They are meant for a GPU, which one small model leaves idle most "
        "of the time; a CPU is busy with one, and gains nothing by more.",
        table(HEADER, rows),
        figures,
    )


if __name__ == "__main__":
    numbers, *words = sys.argv[1:]
    print(table(HEADER, compare([int(count) for count in numbers.split(",")], words)[0]))
