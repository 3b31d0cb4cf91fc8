"""Graphs per second of the path-star sampler."""

from __future__ import annotations

import os
import statistics

import torch
from measuring import Section, spread, table, take_turns

from forethought.tasks import PathStar

SIZES = [(2, 5, 50), (5, 5, 50), (7, 7, 100)]
ROWS, ROUNDS = 8192, 15


def measure() -> Section:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    before = torch.get_num_threads()
    rows, figures = [], {}
    for threads in sorted({1, len(os.sched_getaffinity(0))}):
        torch.set_num_threads(threads)
        calls = {}
        for degree, length, nodes in SIZES:
            task = PathStar(degree=degree, path_length=length, num_nodes=nodes)
            generator = torch.Generator(device).manual_seed(0)
            calls[f"G({degree},{length}), N={nodes}"] = lambda task=task, generator=generator: task.sample(
                ROWS, generator, device
            )
        take_turns(calls, 2)
        for name, seconds in take_turns(calls, ROUNDS).items():
            rates = [ROWS / each for each in seconds]
            rows.append([name, threads, spread((statistics.median(rates), min(rates), max(rates)), 0)])
            if name == "G(2,5), N=50":
                figures["sampler_graphs_per_second"] = round(statistics.median(rates))
    torch.set_num_threads(before)
    return Section(
        "The path-star sampler",
        f"{ROWS:,} graphs a call on {device}; median of {ROUNDS} calls in turns (least to most).",
        table(["graph", "threads", "graphs per second"], rows),
        figures,
    )


if __name__ == "__main__":
    print(measure().table)
