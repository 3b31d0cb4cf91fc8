"""`hardware=cpu` against the plain loop: samples per second on a CPU."""

from __future__ import annotations

import statistics
from functools import partial

import torch
from measuring import Section, ratios, spread, table, take_turns
from plain import PlainLoop, new_model

from forethought.cli.compose import Composer
from forethought.run import build
from forethought.tasks import Data, PathStar

SIZES = [(6, 384, 6), (2, 64, 4)]
BATCH, ROUNDS = 256, 7


class OurLoop:
    """The arithmetic of `forethought train hardware=cpu`, with what it picks by itself, without Lightning."""

    def __init__(self, layers: int, width: int, heads: int, *choices: str) -> None:
        words = [f"model.layers={layers}", f"model.width={width}", f"model.heads={heads}", *choices]
        graph = ["task.degree=2", "task.path_length=5", "task.num_nodes=50"]
        (cell,) = Composer(["hardware=cpu", f"batch_size={BATCH}", "seed=0", *words, *graph]).cells()
        parts = build(cell.config)
        self.choice, self.hardware, self.objective = parts.hardware_choice, parts.hardware, parts.objective
        if self.hardware.compile:
            self.objective.model.compile()
        self.data = Data(parts.task, 0, BATCH)
        self.optimizer = self.objective.make_optimizer(self.objective, 10_000)["optimizer"]
        self.done = 0

    def step(self) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.hardware.precision == "bf16"):
            loss = self.objective.loss(self.data.batch(self.done))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.objective.parameters(), 1.0, foreach=True)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.done += 1


def several(loop: PlainLoop | OurLoop, steps: int) -> None:
    for _ in range(steps):
        loop.step()


def measure() -> Section:
    task = PathStar(degree=2, path_length=5, num_nodes=50)
    rows, figures = [], {}
    for layers, width, heads in SIZES:
        ours = OurLoop(layers, width, heads)
        ours.hardware.limit_threads()  # for both
        loops = {"plain": PlainLoop(task, new_model(task, layers, width, heads), BATCH), "ours": ours}
        steps = 1 if width > 200 else 10
        calls = {name: partial(several, loop, steps) for name, loop in loops.items()}
        take_turns(calls, 2)  # to warm up, and to compile
        seconds = take_turns(calls, ROUNDS)
        faster = ratios(seconds["plain"], seconds["ours"])
        rates = [steps * BATCH / statistics.median(found) for found in seconds.values()]
        rows.append([f"{layers} × {width}", *(f"{rate:,.0f}" for rate in rates), spread(faster), ours.choice])
        figures[f"cpu_{layers}x{width}_ratio"] = round(faster[0], 3)
    header = ["GPT", "plain, samples/s", "`hardware=cpu`, samples/s", "times as fast", "what it picked"]
    return Section(
        "Training on a CPU: `hardware=cpu` against the plain loop",
        f"G(2,5) with 50 names, {BATCH} rows a step, next-token prediction, both on as many threads as "
        "`hardware=cpu` picked. The plain loop (`benchmarks/plain.py`) is fp32, eager, with a `DataLoader` "
        "over tokenised rows, and logits at every position. "
        f"Median of {ROUNDS} rounds in turns (least to most).",
        table(header, rows),
        figures,
    )


if __name__ == "__main__":
    print(measure().table)
