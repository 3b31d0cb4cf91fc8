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
from measuring import FEW_ROWS, Section, product_rate, ratios, spread, table, take_turns
from plain import PlainLoop, new_model
from product import Product, gpt
from torch.utils.flop_counter import FlopCounterMode

from forethought.tasks import Data, PathStar

# (layers, width, heads), rows a step, (degree, length, nodes), steps, how it is compiled
LARGE = ((12, 384, 6), 512, (5, 5, 100), 10, ("compiled", "true"))
SMALL = ((3, 32, 2), 64, (2, 5, 9), 100, ("CUDA graphs", "reduce-overhead"))
TINY = ((1, 16, 2), 8, (2, 3, 10), 2, None)
# Nodes of an arm, and rows a step.
MAMBA_ROWS = {"mamba": [(5, 256)], "mamba2": [(5, 256), (20, 256), (80, 128)]}
ROUNDS = 5


def count_flop(product: Product, task: PathStar, batch: int) -> float:
    """Return the arithmetic of the matrix products of one step, counted on four rows."""
    with FlopCounterMode(display=False) as counter:
        product.objective.cpu().loss(Data(task, 0, 4).batch(0)).backward()
    return counter.get_total_flops() * batch / 4


def draw_rows(data: Data, steps: int) -> None:
    for step in range(steps):
        data.batch(step)


def measure(tiny: bool = False) -> Section:
    """Runs on a CPU too if `tiny`; its figures mean nothing there."""
    on_gpu = torch.cuda.is_available()
    rows = []
    # Over a hundred products: an idle GPU takes a while to raise its clock.
    most = product_rate(256 if tiny else 8192, torch.bfloat16, rounds=20 if tiny else 200)
    for size, batch, graph, steps, compiled in [TINY] if tiny else (LARGE, SMALL):
        degree, length, nodes = graph
        task = PathStar(degree=degree, path_length=length, num_nodes=nodes)
        words = [f"task.degree={degree}", f"task.path_length={length}", f"task.num_nodes={nodes}"]
        words += [*gpt(*size), f"batch_size={batch}", f"hardware={'gpu' if on_gpu else 'cpu'}"]
        ways = [("eager", "false")] + ([compiled] if compiled else [])
        plain = PlainLoop(task, new_model(task, *size), batch, torch.bfloat16)
        data = Data(task, 0, batch, "cuda" if on_gpu else "cpu")
        calls = {"plain": partial(plain.steps, steps), "sampler alone": partial(draw_rows, data, steps)}
        take_turns(calls, 1)
        seconds = take_turns(calls, ROUNDS)
        for name, value in ways:
            product = Product.of(*words, "precision=bf16", f"hardware.compile={value}")
            seconds[name] = product.fit_rounds(steps, ROUNDS)
        flop = count_flop(product, task, batch)
        for name, durations in seconds.items():
            step = statistics.median(durations) / steps
            faster, share = ratios(seconds["plain"], durations), flop / step / most
            figures_of_loop = [f"{1000 * step:.2f}", f"{batch / step:,.0f}", spread(faster)]
            is_product = name in dict(ways)
            speed = [f"{flop / step / 1e12:.1f}", f"{share:.1%}"] if is_product else ["", ""]
            rows.append([f"{size[0]} × {size[1]}", name, *figures_of_loop, *speed])
            print(rows[-1], file=sys.stderr, flush=True)
    return Section(
        "Training on a GPU: `forethought train` against the plain loop and the machine",
        "GPT of 12 × 384, 512 rows of G(5,5) with 100 names, and of 3 × 32, 64 rows of G(2,5), in bf16: "
        "eager, and with `hardware.compile=true` or `reduce-overhead` (CUDA graphs). The plain loop is bf16 "
        "autocast, eager, a `DataLoader` over tokenised rows, logits at every position. The loops run one "
        f"after the other, {ROUNDS} stretches each; least and most in brackets. "
        "The share is the counted arithmetic of a step against what a bf16 matrix product reached in the "
        f"same run ({most / 1e12:,.1f} TFLOP/s).",
        table(["GPT", "loop", "ms a step", "samples/s", "times the plain loop", "TFLOP/s", "share"], rows),
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
    cells, steps = (1, 2) if tiny else (8, 300)
    ways = [("cpu", 1, "false")] if tiny else [("gpu", workers, "false") for workers in (1, 2, 4, 8)]
    if not tiny:
        ways += [("cpu", 8, "false"), ("gpu", 8, "reduce-overhead")]
    rows = []
    for hardware, workers, how in ways:
        words = [f"hardware={hardware}", f"hydra.launcher.workers={workers}", f"hardware.compile={how}"]
        words += FEW_ROWS if tiny else []
        seconds = seconds_of_sweep(cells, steps, *words)
        rows.append([hardware, workers, how, f"{seconds:.1f}", f"{3600 * cells / seconds:,.0f}"])
        print(rows[-1], file=sys.stderr, flush=True)
    return Section(
        "Sweeps of small models on one GPU",
        f"{cells} cells of the quickstart's next-token prediction (GPT of 3 × 32, 64 rows of G(2,5)), "
        f"{steps} steps each, evaluations and starting up included: the wall time of one command.",
        table(["hardware", "workers", "compile", "seconds", "cells an hour"], rows),
    )


def measure_mamba(tiny: bool = False) -> Section:
    """mamba-ssm's kernels against plain PyTorch, where they can be called, on rows of several lengths."""
    on_gpu = torch.cuda.is_available()
    size = ["model.layers=1", "model.width=16"] if tiny else ["model.layers=4", "model.width=256"]
    size += ["task.degree=2", f"hardware={'gpu' if on_gpu else 'cpu'}"]
    backends = ("torch", "mamba_ssm") if on_gpu and find_spec("mamba_ssm") else ("torch",)
    steps, rows = 2 if tiny else 5, []
    for model in ("mamba", "mamba2"):
        for length, batch in [(3, 4)] if tiny else MAMBA_ROWS[model]:
            words = [*size, f"task.path_length={length}", f"batch_size={batch}", f"model={model}"]
            seconds = {
                name: Product.of(*words, f"model.backend={name}").fit_rounds(steps, ROUNDS)
                for name in backends
            }
            task = PathStar(degree=2, path_length=length)
            tokens = task.prompt_length + task.answer_length - 1
            for name, durations in seconds.items():
                faster, step = ratios(seconds["torch"], durations), statistics.median(durations) / steps
                rows.append([model, tokens, batch, name, f"{1000 * step:.2f}", spread(faster)])
                print(rows[-1], file=sys.stderr, flush=True)
    return Section(
        "mamba-ssm's kernels against plain PyTorch",
        "Next-token prediction, 4 layers × 256, fp32, eager, by `model.backend` and the tokens of a row. "
        "Mamba-1 is measured on short rows alone, where a step of its plain scan takes half a second.",
        table(["model", "tokens", "rows", "backend", "ms a step", "times plain PyTorch"], rows),
    )
