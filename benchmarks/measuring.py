"""Loops that take turns, and the form of a written measurement."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from matplotlib.figure import Figure

FEW_ROWS = ["evaluation.validation_samples=8", "evaluation.test_samples=8"]
"""Words of a run whose evaluations are not what is measured."""


@dataclass
class Section:
    """One measurement: a block of docs/PERFORMANCE.md, perhaps with a plot."""

    title: str
    text: str
    table: str
    plot: Figure | None = None


def take_turns(contestants: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each call, `rounds` times each, in turns: a noisy moment hits all of them.

    A call that returns a float has timed itself.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, call in contestants.items():
            began = time.perf_counter()
            own = call()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds[name].append(own if isinstance(own, float) else time.perf_counter() - began)
    return seconds


def product_rate(side: int, dtype: torch.dtype = torch.float32, rounds: int = 20) -> float:
    """Return the FLOP per second of a square matrix product, the ceiling of what a step could do."""
    a = torch.randn(side, side, device="cuda" if torch.cuda.is_available() else "cpu", dtype=dtype)
    return 2 * side**3 / min(take_turns({"product": lambda: a @ a}, rounds)["product"])


def ratios(slow: Sequence[float], fast: Sequence[float]) -> tuple[float, float, float]:
    """Return the median, least and most of slow / fast, round by round."""
    quotients = sorted(a / b for a, b in zip(slow, fast, strict=True))
    return statistics.median(quotients), quotients[0], quotients[-1]


def spread(values: tuple[float, float, float], digits: int = 2) -> str:
    middle, low, high = values
    return f"{middle:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
