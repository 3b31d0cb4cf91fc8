"""`hardware=gpu` against the plain loop and against the machine.

`python benchmarks/gpu.py --tiny` runs every line of it in seconds, on a CPU too: its figures mean nothing.
"""

from __future__ import annotations

import statistics
import sys
from functools import partial

import torch
from measuring import Section, ratios, spread, table, take_turns
from ours import OurLoop, gpt
from plain import PlainLoop, new_model
from torch.utils.flop_counter import FlopCounterMode

from forethought.tasks import PathStar

SIZE, BATCH, GRAPH, SIDE = (12, 384, 6), 512, (5, 5, 100), 8192
ROUNDS, STEPS = 7, 20


def ceiling(side: int) -> float:
    """bf16 FLOP per second of a large matrix product, here and now."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    a = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    return 2 * side**3 / min(take_turns({"product": lambda: a @ a}, 20)["product"])


def flop_of(loop: OurLoop) -> int:
    """Arithmetic of one step, counted as it runs eagerly."""
    with FlopCounterMode(display=False) as counter:
        loop.step()
    return counter.get_total_flops()


def sampling(loop: OurLoop, steps: int) -> None:
    for step in range(steps):
        loop.data.batch(step)


def measure(
    size: tuple[int, int, int] = SIZE,
    batch: int = BATCH,
    graph: tuple[int, int, int] = GRAPH,
    side: int = SIDE,
) -> Section:
    degree, length, nodes = graph
    task = PathStar(degree=degree, path_length=length, num_nodes=nodes)
    words = [f"task.degree={degree}", f"task.path_length={length}", f"task.num_nodes={nodes}"]
    words += [*gpt(*size), f"batch_size={batch}"]
    on_gpu = torch.cuda.is_available()
    words += ["hardware=gpu"] if on_gpu else ["hardware=cpu", "hardware.precision=bf16"]
    ours = {
        how + ", CUDA graph" * graphed: OurLoop(
            *words, f"hardware.compile={how == 'compiled'}", f"hardware.cuda_graph={graphed}"
        )
        for graphed in ((False, True) if on_gpu else (False,))
        for how in ("eager", "compiled")
    }
    plain = PlainLoop(task, new_model(task, *size), batch, torch.float16)
    calls = {"plain": partial(plain.steps, STEPS)}
    calls |= {name: partial(loop.steps, STEPS) for name, loop in ours.items()}
    calls["sampler alone"] = partial(sampling, ours["eager"], STEPS)
    flop = flop_of(ours["eager"])
    take_turns(calls, 2)  # to warm up, and to compile
    most, seconds = ceiling(side), take_turns(calls, ROUNDS)
    step = {name: statistics.median(found) / STEPS for name, found in seconds.items()}
    faster = {name: ratios(seconds["plain"], found) for name, found in seconds.items()}
    share = {name: flop / step[name] / most for name in ours}
    rows = [
        [
            name,
            f"{1000 * step[name]:.2f}",
            f"{batch / step[name]:,.0f}",
            spread(faster[name]),
            f"{share[name]:.1%}" if name in share else "",
        ]
        for name in calls
    ]
    best = max(share, key=lambda name: share[name])
    figures = {"gpu_ratio": round(faster[best][0], 3), "gpu_fraction_of_ceiling": round(share[best], 4)}
    return Section(
        "Training on a GPU: `hardware=gpu` against the plain loop and the machine",
        f"GPT of {size[0]} × {size[1]}, {batch} rows of G({degree},{length}) with {nodes} names. The plain "
        "loop is fp16 autocast, eager, a `DataLoader` over tokenised rows, logits at every position. "
        f"Arithmetic is that of the products which our step needs ({flop / 1e9:,.0f} GFLOP); its share is of "
        f"what a bf16 product of side {side:,} reached in the same run ({most / 1e12:,.1f} TFLOP/s).",
        table(["loop", "ms a step", "samples/s", "times the plain loop", "share of the ceiling"], rows),
        figures,
    )


if __name__ == "__main__":
    part = measure((1, 32, 2), 8, (2, 3, 10), 256) if "--tiny" in sys.argv else measure()
    print(part.text, part.table, sep="\n\n")
