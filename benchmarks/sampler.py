"""Measure the graphs per second of the path-star sampler."""

from __future__ import annotations

import statistics

import torch
from measuring import Section, spread, table, take_turns

from forethought.hardware import available_cores
from forethought.tasks import Draws, PathStar

SIZES = [(2, 5, 50), (5, 5, 50), (7, 7, 100)]
COUNTS, ROUNDS = (64, 8192), 15


def measure(tiny: bool = False) -> Section:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    before = torch.get_num_threads()
    rows, rounds = [], 1 if tiny else ROUNDS
    for threads in sorted({1, available_cores()}):
        torch.set_num_threads(threads)
        calls = {}
        for degree, length, nodes in SIZES:
            task = PathStar(degree=degree, path_length=length, num_nodes=nodes)
            for count in COUNTS:
                # A new source for each call, as at each training step.
                calls[f"G({degree},{length}), N={nodes}", count] = lambda task=task, count=count: task.sample(
                    count, Draws(0, device=device)
                )
        take_turns(calls, 2)
        for (name, count), seconds in take_turns(calls, rounds).items():
            rates = [count / duration for duration in seconds]
            median = statistics.median(rates)
            rows.append([name, count, threads, spread((median, min(rates), max(rates)), 0)])
    torch.set_num_threads(before)
    return Section(
        "The path-star sampler",
        f"On {device}; median of {rounds} interleaved calls (least to most).",
        table(["graph", "graphs per call", "threads", "graphs per second"], rows),
    )
