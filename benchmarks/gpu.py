"""`forethought train` with `hardware=gpu` against the plain loop and against the machine."""

from __future__ import annotations

import statistics
from functools import partial

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
