"""`forethought train` with `hardware=gpu` against the plain loop and against the machine."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from importlib.util import find_spec

import torch
from measuring import Section, ratios, spread, table, take_turns
from plain import PlainLoop, new_model
from product import Product, gpt
from torch.utils.flop_counter import FlopCounterMode

from forethought.tasks import Data, PathStar

# (layers, width, heads), rows a step, (degree, length, nodes), steps
LARGE = ((12, 384, 6), 512, (5, 5, 100), 20)
SMALL = ((3, 32, 2), 16, (2, 5, 50), 200)


def ceiling(side: int) -> float:
    """Return the bf16 FLOP per second of a large matrix product."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    a = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    return 2 * side**3 / min(take_turns({"product": lambda: a @ a}, 20)["product"])


def count_flop(product: Product, data: Data) -> int:
    """Return the arithmetic of the matrix products of one step."""
    with FlopCounterMode(display=False) as counter:
        product.objective.loss(data.batch(0)).backward()
    return counter.get_total_flops()


def draw_rows(data: Data, steps: int) -> None:
    for step in range(steps):
        data.batch(step)


def measure(tiny: bool = False) -> Section:
    """Runs on a CPU too if `tiny`; its figures mean nothing there."""
    on_gpu = torch.cuda.is_available()
    rows, figures, most = [], {}, ceiling(256 if tiny else 8192)
    for size, batch, graph, steps in [((1, 16, 2), 8, (2, 3, 10), 2)] if tiny else (LARGE, SMALL):
        degree, length, nodes = graph
        task = PathStar(degree=degree, path_length=length, num_nodes=nodes)
        words = [f"task.degree={degree}", f"task.path_length={length}", f"task.num_nodes={nodes}"]
        words += [
            *gpt(*size),
            f"batch_size={batch}",
            "precision=bf16",
            f"hardware={'gpu' if on_gpu else 'cpu'}",
        ]
        ways = {"eager": "false"} | ({} if tiny else {"compiled": "true", "CUDA graphs": "reduce-overhead"})
        products = {name: Product.of(*words, f"hardware.compile={value}") for name, value in ways.items()}
        plain = PlainLoop(task, new_model(task, *size), batch, torch.float16 if on_gpu else torch.bfloat16)
        flop = count_flop(products["eager"], Data(task, 0, batch))
        calls = {"plain": partial(plain.steps, steps)}
        calls |= {name: partial(product.fit, steps) for name, product in products.items()}
        data = Data(task, 0, batch, "cuda" if on_gpu else "cpu")
        calls["sampler alone"] = partial(draw_rows, data, steps)
        take_turns(calls, 1)
        seconds = take_turns(calls, 1 if tiny else 7)
        for name in calls:
            step = statistics.median(seconds[name]) / steps
            faster, share = ratios(seconds["plain"], seconds[name]), flop / step / most
            figures_of_loop = [f"{1000 * step:.2f}", f"{batch / step:,.0f}", spread(faster)]
            share_shown = f"{share:.1%}" if name in ways else ""
            rows.append([f"{size[0]} × {size[1]}", name, *figures_of_loop, share_shown])
            if name in ways:
                figures[f"gpu_{size[0]}x{size[1]}_{name.replace(' ', '_')}_ratio"] = round(faster[0], 3)
    return Section(
        "Training on a GPU: `forethought train` against the plain loop and the machine",
        f"GPT of 12 × 384, 512 rows of G(5,5) with 100 names, and of 3 × 32, 16 rows of G(2,5) with 50, in "
        "bf16: eager, `hardware.compile=true` and `hardware.compile=reduce-overhead` (CUDA graphs). The "
        "plain loop is fp16 autocast, eager, a `DataLoader` over tokenised rows, logits at every position. "
        "The share is the counted arithmetic of a step against what a bf16 matrix product reached in the "
        f"same run ({most / 1e12:,.1f} TFLOP/s).",
        table(
            ["GPT", "loop", "ms a step", "samples/s", "times the plain loop", "share of the ceiling"], rows
        ),
        figures,
    )


def seconds_of_sweep(cells: int, steps: int, *words: str) -> float:
    """Return the wall time of one sweep of the quickstart's next-token cells."""
    common = ["experiment=quickstart", f"seed=range({cells})", f"max_steps={steps}", "stop_when_solved=false"]
    command = [sys.executable, "-m", "forethought", "train", "-m", *common, *words]
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        return time.perf_counter() - began


def measure_sweeps(tiny: bool = False) -> Section:
    """Several cells that share one GPU, beside as many on the cores of the same machine."""
    cells, steps = (1, 2) if tiny else (16, 500)
    ways = [("cpu", 1, "false")] if tiny else [("gpu", workers, "false") for workers in (1, 2, 4, 8, 16)]
    if not tiny:
        ways += [("gpu", 8, "reduce-overhead"), ("cpu", 16, "false")]
    rows, figures = [], {}
    for hardware, workers, how in ways:
        words = [f"hardware={hardware}", f"hydra.launcher.workers={workers}", f"hardware.compile={how}"]
        seconds = seconds_of_sweep(cells, steps, *words)
        rows.append([hardware, workers, how, f"{seconds:.1f}", f"{3600 * cells / seconds:,.0f}"])
        figures[f"sweep_{hardware}_{workers}_{how}_seconds"] = round(seconds, 1)
    return Section(
        "Sweeps of small models on one GPU",
        f"{cells} cells of the quickstart's next-token prediction (GPT of 3 × 32, 64 rows of G(2,5)), "
        f"{steps} steps each, evaluations and starting up included: the wall time of one command.",
        table(["hardware", "workers", "compile", "seconds", "cells an hour"], rows),
        figures,
    )


def measure_mamba(tiny: bool = False) -> Section:
    """mamba-ssm's kernels against plain PyTorch, where they can be called."""
    on_gpu = torch.cuda.is_available()
    size = ["model.layers=1", "model.width=16"] if tiny else ["model.layers=4", "model.width=256"]
    graph = ["task.degree=2", "task.path_length=3" if tiny else "task.path_length=5"]
    words = [*size, *graph, f"batch_size={4 if tiny else 256}", f"hardware={'gpu' if on_gpu else 'cpu'}"]
    backends = ("torch", "mamba_ssm") if on_gpu and find_spec("mamba_ssm") else ("torch",)
    steps, rows, figures = 2 if tiny else 20, [], {}
    for model in ("mamba", "mamba2"):
        for precision in ("fp32", "bf16"):
            cell = [*words, f"model={model}", f"precision={precision}"]
            products = {name: Product.of(*cell, f"model.backend={name}") for name in backends}
            calls = {name: partial(product.fit, steps) for name, product in products.items()}
            take_turns(calls, 1)
            seconds = take_turns(calls, 1 if tiny else 5)
            for name in backends:
                faster = ratios(seconds["torch"], seconds[name])
                step = 1000 * statistics.median(seconds[name]) / steps
                rows.append([model, precision, name, f"{step:.2f}", spread(faster)])
                figures[f"{model}_{precision}_{name}_ratio"] = round(faster[0], 3)
    return Section(
        "mamba-ssm's kernels against plain PyTorch",
        "Next-token prediction, 4 layers × 256, 256 rows of G(2,5), eager. The backend is `model.backend`.",
        table(["model", "precision", "backend", "ms a step", "times plain PyTorch"], rows),
        figures,
    )
