"""`forethought train` with `hardware=cpu` against the plain loop: samples per second."""

from __future__ import annotations

import statistics
from functools import partial

from measuring import Section, ratios, spread, table, take_turns
from plain import PlainLoop, new_model
from product import G25, Product, gpt

from forethought.tasks import PathStar

# (layers, width, heads), rows a step, steps: a large model, a small one, and that of the quickstart
SIZES = [((6, 384, 6), 256, 3), ((2, 64, 4), 256, 30), ((3, 32, 2), 16, 200)]


def measure(tiny: bool = False) -> Section:
    task = PathStar(degree=2, path_length=5, num_nodes=50)
    rows, figures, rounds = [], {}, 1 if tiny else 7
    for size, batch, steps in [((1, 16, 2), 8, 2)] if tiny else SIZES:
        product = Product.of("hardware=cpu", f"batch_size={batch}", *G25, *gpt(*size))
        plain = PlainLoop(task, new_model(task, *size), batch)
        # The product comes first, and limits the threads of both.
        calls = {"product": partial(product.fit, steps), "plain": partial(plain.steps, steps)}
        take_turns(calls, 1)
        seconds = take_turns(calls, rounds)
        faster = ratios(seconds["plain"], seconds["product"])
        rates = [f"{steps * batch / statistics.median(seconds[name]):,.0f}" for name in ("plain", "product")]
        name = f"{size[0]} × {size[1]}"
        rows.append([name, batch, *rates, spread(faster), product.reason])
        figures[f"cpu_{size[0]}x{size[1]}_ratio"] = round(faster[0], 3)
    header = ["GPT", "rows", "plain, samples/s", "forethought, samples/s", "times as fast", "`auto` chose"]
    return Section(
        "Training on a CPU: `forethought train` against the plain loop",
        "G(2,5) with 50 names, next-token prediction, fp32, both on the threads that `hardware=cpu` chose. "
        "The plain loop (`benchmarks/plain.py`) is eager, with a `DataLoader` over tokenised rows, and "
        f"logits at every position. Median of {rounds} rounds in turns (least to most).",
        table(header, rows),
        figures,
    )
