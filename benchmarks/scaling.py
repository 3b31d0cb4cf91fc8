"""How the cost of a training step grows, against the arithmetic that it must cost."""

from __future__ import annotations

import statistics
from functools import partial

import torch
from measuring import Section, table, take_turns
from plain import new_model
from torch.utils.flop_counter import FlopCounterMode

from forethought.objectives import NextToken
from forethought.tasks import Data, PathStar

BASE = {"width": 64, "degree": 2, "length": 5, "batch": 64}
AXES = {"width": [32, 64, 128, 256], "length": [3, 5, 9, 17], "batch": [16, 64, 256]}
ROUNDS = 5


class Steps:
    """Plain fp32 steps of a GPT of 2 layers."""

    def __init__(self, width: int, degree: int, length: int, batch: int) -> None:
        task = PathStar(degree=degree, path_length=length, num_nodes=50)
        self.objective = NextToken(new_model(task, 2, width, width // 16), task)
        self.data = Data(task, 0, batch)
        self.optimizer = torch.optim.AdamW(self.objective.parameters(), lr=1e-3, fused=True)
        self.done = 0
        with FlopCounterMode(display=False) as counter:
            self.loss().backward()
        self.flop = counter.get_total_flops()

    def loss(self) -> torch.Tensor:
        self.done += 1
        return self.objective.loss(self.data.batch(self.done))

    def step(self) -> None:
        self.loss().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def peak() -> float:
    """FLOP per second of a large fp32 matrix product here and now."""
    a, b = torch.randn(2048, 1024), torch.randn(1024, 1024)
    seconds = take_turns({"product": lambda: a @ b}, 10)["product"]
    return 2 * 2048 * 1024 * 1024 / min(seconds)


def measure() -> Section:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    settings = [(axis, {**BASE, axis: value}) for axis, values in AXES.items() for value in values]
    loops = {index: Steps(**values) for index, (_, values) in enumerate(settings)}
    calls = {str(index): partial(loop.step) for index, loop in loops.items()}
    take_turns(calls, 2)
    ceiling, seconds = peak(), take_turns(calls, ROUNDS)
    rows = []
    for index, (axis, values) in enumerate(settings):
        middle = statistics.median(seconds[str(index)])
        share = loops[index].flop / middle / ceiling
        rows.append(
            [axis, *values.values(), f"{loops[index].flop / 1e9:.2f}", f"{1000 * middle:.1f}", f"{share:.0%}"]
        )
    torch.set_num_threads(before)
    return Section(
        "How cost grows",
        "GPT of 2 layers, next-token prediction on G(2, length) with 50 names, fp32, eager, one thread; one "
        "axis is varied at a time. Arithmetic is counted (`FlopCounterMode`), its share is of what a large "
        f"fp32 matrix product reached in the same run ({ceiling / 1e9:.0f} GFLOP/s).",
        table(["axis", *BASE, "GFLOP a step", "ms a step", "share of the product's rate"], rows),
    )


if __name__ == "__main__":
    print(measure().table)
