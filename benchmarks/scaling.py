"""Growth of the cost of a training step, against the arithmetic and the bytes that it must cost."""

from __future__ import annotations

import statistics
from functools import partial

import matplotlib
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from measuring import Section, product_rate, table, take_turns
from product import Product, gpt
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from forethought.report.plots.style import BLUE, GREEN, MUTED, STYLE, VERMILLION
from forethought.tasks import Data

BASE = {"width": 64, "length": 5, "batch": 64}
LOOKS = ((BLUE, "o"), (VERMILLION, "s"), (GREEN, "D"))  # of the axes below
AXES = {"width": [32, 64, 128, 256], "length": [3, 5, 9, 17], "batch": [16, 64, 256]}
WEIGHT_PASSES = 10  # of 4 bytes: forward, backward, the gradient; AdamW reads four tensors and writes three


def new_product(width: int, length: int, batch: int) -> Product:
    """Return the fp32 training of a GPT of 2 layers."""
    graph = ["task.degree=2", f"task.path_length={length}", "task.num_nodes=50"]
    plain = ["hardware.compile=false", "hardware.threads=1", f"batch_size={batch}"]
    return Product.of(*graph, *plain, *gpt(2, width, width // 16))


def count(product: Product) -> tuple[int, int]:
    """Return the FLOP of the matrix products, and the bytes of the weights and of the saved activations."""
    saved: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    objective = product.objective
    rows = Data(objective.task, 0, product.cell.config["batch_size"]).batch(0)
    with FlopCounterMode(display=False) as counter, saved_tensors_hooks(note, lambda tensor: tensor):
        objective.loss(rows).backward()
    weights = {p.data_ptr(): 4 * p.numel() for p in objective.parameters()}
    activations = sum(size for address, size in saved.items() if address not in weights)
    return counter.get_total_flops(), WEIGHT_PASSES * sum(weights.values()) + 2 * activations


def copy_rate() -> float:
    """Return the bytes per second of a large copy."""
    source = torch.zeros(2**26, device="cuda" if torch.cuda.is_available() else "cpu")
    target = torch.zeros_like(source)
    return 2 * source.nbytes / min(take_turns({"copy": lambda: target.copy_(source)}, 10)["copy"])


def draw(points: dict[str, list[tuple[float, float]]]) -> Figure:
    """Draw milliseconds a step against the least that they could be, both on a logarithmic scale."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.0, 3.8), layout="constrained")
        axes = figure.subplots()
        least = [x for line in points.values() for x, _ in line]
        ends = [min(least), max(least)]
        axes.plot(ends, ends, color=MUTED, linewidth=1, label="the least possible")
        for (axis, line), (colour, marker) in zip(points.items(), LOOKS, strict=True):
            axes.plot(*zip(*line, strict=True), color=colour, marker=marker, label=axis)
        axes.set(xscale="log", yscale="log", xlabel="least possible ms a step", ylabel="ms a step")
        for direction in (axes.xaxis, axes.yaxis):
            direction.set_major_formatter("{x:g}")
            direction.set_minor_formatter(NullFormatter())
        axes.legend()
    return figure


def measure(tiny: bool = False) -> Section:
    before, steps = torch.get_num_threads(), 1 if tiny else 10
    axes = {axis: values[:1] for axis, values in AXES.items()} if tiny else AXES
    settings = [(axis, {**BASE, axis: value}) for axis, values in axes.items() for value in values]
    products = {str(index): new_product(**values) for index, (_, values) in enumerate(settings)}
    torch.set_num_threads(1)
    flop_rate, byte_rate = product_rate(1024), copy_rate()
    seconds = take_turns(
        {name: partial(product.fit, steps) for name, product in products.items()}, 1 if tiny else 5
    )
    rows, points = [], {axis: [] for axis in axes}
    for (axis, values), (name, product) in zip(settings, products.items(), strict=True):
        flop, size = count(product)
        least = 1000 * max(flop / flop_rate, size / byte_rate)
        measured = 1000 / steps * statistics.median(seconds[name])
        points[axis].append((least, measured))
        cost = [f"{flop / 1e9:.2f}", f"{size / 1e6:.0f}", f"{least:.1f}", f"{measured:.1f}"]
        rows.append([axis, *values.values(), *cost, f"{measured / least:.1f}"])
    torch.set_num_threads(before)
    return Section(
        "How cost grows",
        "GPT of 2 layers, next-token prediction on G(2, length) with 50 names, fp32, eager, one thread; one "
        "axis is varied at a time. Arithmetic is counted (`FlopCounterMode`), and so are bytes: "
        f"{WEIGHT_PASSES} passes over the weights (forward, backward, AdamW), and the activations saved for "
        "the backward pass, written and read once. The least that a step could take is the longer of the "
        f"two at the rates of a large matrix product and a large copy ({flop_rate / 1e9:.0f} GFLOP/s, "
        f"{byte_rate / 1e9:.0f} GB/s).",
        table(["axis", *BASE, "GFLOP", "MB", "least ms", "ms a step", "times the least"], rows),
        plot=draw(points),
    )
