"""`hardware=cpu` against the plain loop: samples per second on a CPU."""

from __future__ import annotations

import statistics
from functools import partial

from measuring import Section, ratios, spread, table, take_turns
from ours import G25, OurLoop, gpt
from plain import PlainLoop, new_model

from forethought.tasks import PathStar

SIZES = [(6, 384, 6), (2, 64, 4)]
BATCH, ROUNDS = 256, 15


def measure() -> Section:
    task = PathStar(degree=2, path_length=5, num_nodes=50)
    rows, figures = [], {}
    for layers, width, heads in SIZES:
        ours = OurLoop("hardware=cpu", f"batch_size={BATCH}", *G25, *gpt(layers, width, heads))
        loops = {"plain": PlainLoop(task, new_model(task, layers, width, heads), BATCH), "ours": ours}
        steps = 1 if width > 200 else 10
        calls = {name: partial(loop.steps, steps) for name, loop in loops.items()}
        ours.hardware.limit_threads()  # for both
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
