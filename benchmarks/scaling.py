"""How the cost of a training step grows, against the arithmetic and the bytes that it must cost."""

from __future__ import annotations

import statistics
from functools import partial

import matplotlib
import torch
from forethought.run.stack import Stack
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from measuring import Section, table, take_turns
from plain import new_model
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from forethought.objectives import NextToken
from forethought.report.plots.style import LINES, MUTED, STYLE
from forethought.tasks import Data, PathStar, batches

BASE = {"width": 64, "degree": 2, "length": 5, "batch": 64, "replicas": 1}
AXES = {
    "width": [32, 64, 128, 256],
    "length": [3, 5, 9, 17],
    "batch": [16, 64, 256],
    "replicas": [1, 4, 16],
}
ROUNDS = 5
WEIGHT_PASSES = 10  # of 4 bytes: forward, backward, the gradient; AdamW reads four tensors and writes three


class Steps:
    """fp32 steps of one or several GPTs of 2 layers, and what one step must cost."""

    def __init__(self, width: int, degree: int, length: int, batch: int, replicas: int) -> None:
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        task = PathStar(degree=degree, path_length=length, num_nodes=50)
        models = [new_model(task, 2, width, width // 16).to(self.device) for _ in range(replicas)]
        self.objectives = [NextToken(model, task) for model in models]
        self.runs = [Data(task, seed, batch, self.device) for seed in range(replicas)]
        self.done = 0
        self.flop, self.bytes = self.count()
        self.trained = self.objectives[0] if replicas == 1 else Stack(self.objectives)
        self.optimizer = torch.optim.AdamW(self.trained.parameters(), lr=1e-3, fused=True)

    def count(self) -> tuple[int, int]:
        """Arithmetic of the products, and bytes of the weights' passes and of what backward must keep."""
        kept: dict[int, int] = {}

        def note(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        objective = self.objectives[0]
        with FlopCounterMode(display=False) as counter, saved_tensors_hooks(note, lambda tensor: tensor):
            objective.loss(self.runs[0].batch(0)).backward()
        objective.zero_grad()
        weights = {p.data_ptr(): 4 * p.numel() for p in objective.parameters()}
        activations = sum(size for place, size in kept.items() if place not in weights)
        once = WEIGHT_PASSES * sum(weights.values()) + 2 * activations  # written and read
        return counter.get_total_flops() * len(self.runs), once * len(self.runs)

    def step(self) -> None:
        if isinstance(self.trained, Stack):
            loss = self.trained(batches(self.runs, self.done)).sum()
        else:
            loss = self.trained.loss(self.runs[0].batch(self.done))
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.done += 1


def ceilings() -> tuple[float, float]:
    """FLOP per second of a large fp32 matrix product, and bytes per second of a large copy, here and now."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    a, b = torch.randn(2048, 1024, device=device), torch.randn(1024, 1024, device=device)
    source = torch.zeros(2**26, device=device)
    target = torch.zeros_like(source)
    seconds = take_turns({"product": lambda: a @ b, "copy": lambda: target.copy_(source)}, 10)
    return 2 * 2048 * 1024 * 1024 / min(seconds["product"]), 2 * source.nbytes / min(seconds["copy"])


def draw(points: dict[str, list[tuple[float, float]]]) -> Figure:
    """Milliseconds a step against the least that they could be, both on a scale of powers of ten."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.0, 3.8), layout="constrained")
        axes = figure.subplots()
        least = [x for line in points.values() for x, _ in line]
        ends = [min(least), max(least)]
        axes.plot(ends, ends, color=MUTED, linewidth=1, label="the least possible")
        for (axis, line), (colour, marker) in zip(points.items(), LINES, strict=False):
            axes.plot(*zip(*line, strict=True), color=colour, marker=marker, label=axis)
        axes.set(xscale="log", yscale="log", xlabel="least possible ms a step", ylabel="ms a step")
        for direction in (axes.xaxis, axes.yaxis):
            direction.set_major_formatter("{x:g}")
            direction.set_minor_formatter(NullFormatter())
        axes.legend()
    return figure


def measure() -> Section:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    settings = [(axis, {**BASE, axis: value}) for axis, values in AXES.items() for value in values]
    loops = {index: Steps(**values) for index, (_, values) in enumerate(settings)}
    calls = {str(index): partial(loop.step) for index, loop in loops.items()}
    take_turns(calls, 2)
    (product, copy), seconds = ceilings(), take_turns(calls, ROUNDS)
    rows, points = [], {axis: [] for axis in AXES}
    for index, (axis, values) in enumerate(settings):
        flop, size = loops[index].flop, loops[index].bytes
        least = 1000 * max(flop / product, size / copy)
        found = 1000 * statistics.median(seconds[str(index)])
        points[axis].append((least, found))
        cost = [f"{flop / 1e9:.2f}", f"{size / 1e6:.0f}", f"{least:.1f}", f"{found:.1f}"]
        rows.append([axis, *values.values(), *cost, f"{found / least:.1f}"])
    torch.set_num_threads(before)
    return Section(
        "How cost grows",
        "GPT of 2 layers, next-token prediction on G(2, length) with 50 names, fp32, eager, one thread; one "
        "axis is varied at a time. Arithmetic is counted (`FlopCounterMode`), and so are bytes: "
        f"{WEIGHT_PASSES} passes over the weights (forward, backward, AdamW), and what the backward pass "
        "keeps, written and read once. The least that a step could take is the longer of the two at what a "
        f"large matrix product and a large copy reached in the same run ({product / 1e9:.0f} GFLOP/s, "
        f"{copy / 1e9:.0f} GB/s).",
        table(["axis", *BASE, "GFLOP", "MB", "least ms", "ms a step", "times the least"], rows),
        plot=draw(points),
    )


if __name__ == "__main__":
    print(measure().table)
