"""Seconds of a command before it begins, and of a cell of a sweep beside its training."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measuring import Section, table

from forethought.results import read_results

COMMAND = [sys.executable, "-m", "forethought"]
TINY = ["experiment=smoke", "model.layers=1", "model.width=16", "hydra.launcher.workers=1"]


def seconds_of(words: list[str], folder: str) -> float:
    began = time.perf_counter()
    subprocess.run([*COMMAND, *words], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def sweep_seconds(cells: int, folder: str, name: str) -> tuple[float, float]:
    """Return the seconds of a whole sweep on one worker, and of its cells' training alone."""
    whole = seconds_of(["train", "-m", f"sweep={name}", f"seed=range({cells})", *TINY], folder)
    trained = sum(read_results(path).wall_seconds for path in Path(folder, "multirun", name).glob("*-s*"))
    return whole, trained


def copy_cells(folder: Path, name: str, count: int) -> None:
    """Make a finished sweep of `count` cells, `big`, from a cell of a finished one."""
    cell = next((folder / "multirun" / name).glob("*-s*"))
    text, big = (cell / "results.json").read_text(), folder / "multirun" / "big"
    words = json.loads((cell.parent / "grid.json").read_text())[cell.name]
    names = [f"{cell.name[:-4]}{index:04x}" for index in range(count)]
    for name in names:
        (big / name).mkdir(parents=True)
        (big / name / "results.json").write_text(text.replace(cell.name, name))
    (big / "grid.json").write_text(json.dumps(dict.fromkeys(names, words)))


def measure(tiny: bool = False) -> Section:
    few_cells, many_cells, rounds = (1, 2, 1) if tiny else (3, 15, 3)
    with tempfile.TemporaryDirectory() as folder:
        helped = [seconds_of(["--help"], folder) for _ in range(2 * rounds - 1)]
        each = []
        for turn in range(rounds):
            few, trained_few = sweep_seconds(few_cells, folder, f"few{turn}")
            many, trained_many = sweep_seconds(many_cells, folder, f"many{turn}")
            each.append(((many - trained_many) - (few - trained_few)) / (many_cells - few_cells))
        copy_cells(Path(folder), "few0", 10 if tiny else 1000)
        status = [seconds_of(["status", "multirun/big"], folder) for _ in range(2 * rounds - 1)]
    measured = {
        "`forethought --help`": helped,
        "`forethought status` of 1,000 finished cells": status,
        "one more cell of a local sweep, beyond its training": each,
    }
    rows = [[name, f"{statistics.median(seconds):.3f}"] for name, seconds in measured.items()]
    return Section(
        "Starting up",
        f"A new process each time; medians. The last: sweeps of {few_cells} and of {many_cells} tiny cells "
        "on one worker of the pool, their difference less `wall_seconds`; it holds composing, starting the "
        "process, building, testing and writing.",
        table(["", "seconds"], rows),
    )
