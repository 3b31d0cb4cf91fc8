"""Time to an answer: of the quickstart's runs, of sweeps on an idle machine and on a busy one."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from measuring import FEW_ROWS, Section, ratios, spread, table, take_turns

from forethought.results import Results, read_results

SETTINGS: dict[str, dict[str, Any]] = {
    "`next_token`": {"objective": "next_token"},
    "`next_token`, `task.reverse=true`": {"objective": "next_token", "task.reverse": True},
    "`token_order`": {"objective": "token_order"},
    "`multi_token`": {"objective": "multi_token"},
}
SMALL, LARGE = ["model.layers=3", "model.width=32"], ["model.layers=4", "model.width=128", "model.heads=4"]
ROUNDS = 3
_SPIN = "while True: pass"


def train(*words: str) -> tuple[float, list[Results]]:
    """Return the seconds of `forethought train -m` with these words, start included, and its runs."""
    command = [sys.executable, "-m", "forethought", "train", "-m", "experiment=quickstart", *words]
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - began
        return seconds, [read_results(path.parent) for path in Path(folder).rglob("results.json")]


def middle(seconds: list[float]) -> str:
    return spread((statistics.median(seconds), min(seconds), max(seconds)), 0)


def measure(tiny: bool = False) -> Section:
    """Seconds to solve the quickstart's graph, and the answers an hour of its sweep."""
    seeds, short = (1, ["max_steps=4", "eval_every=2", *FEW_ROWS]) if tiny else (5, [])
    sweep = f"hydra.sweeper.rows={json.dumps([*SETTINGS.values()])}".replace('"', "")
    whole, runs = train(sweep, f"seed=range({seeds})", "hydra.launcher.workers=2", *short)
    rows, hourly = [], 3600 * len(runs) / whole
    for name, setting in SETTINGS.items():
        wanted = setting["objective"], setting.get("task.reverse", False)
        group = [run for run in runs if (run.choices["objective"], run.config["task"]["reverse"]) == wanted]
        solved = [run.seconds_to_solve for run in group if run.seconds_to_solve and run.verdict == "solved"]
        each = [run.wall_seconds for run in group]
        rows.append([name, f"{len(solved)} of {len(group)}", middle(solved) if solved else "–", middle(each)])
    return Section(
        "Time to an answer",
        f"The quickstart's graph and model, {seeds} seeds a setting in one sweep, two workers; medians, "
        "least and most. An answer is a run that ends, solved or at its 2,000 steps. Starting up, evaluation "
        f"and test count: **{hourly:.0f} answers an hour** ({len(runs)} in {whole:.0f} s).",
        table(["objective", "solved", "seconds to solve", "seconds a run"], rows),
    )


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Let as many processes spin on the cores of this machine."""
    spinning = [subprocess.Popen([sys.executable, "-c", _SPIN]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.wait()


def run_seconds(steps: int, workers: int, threads: str, *words: str) -> float:
    """Return the mean seconds of two cells of so many steps, without the start of their processes."""
    cells = ["seed=0,1", f"max_steps={steps}", f"eval_every={steps}", "stop_when_solved=false"]
    _, runs = train(
        *cells, *FEW_ROWS, f"hydra.launcher.workers={workers}", f"hardware.threads={threads}", *words
    )
    return statistics.mean(run.wall_seconds for run in runs)


def measure_busy(tiny: bool = False) -> Section:
    """`hardware.threads=auto` beside one thread, with and without two other busy processes."""
    sizes = [(SMALL, 2)] if tiny else [(SMALL, 200), (LARGE, 60)]
    rows = []
    for (size, steps), others, workers in [(sizes[0], 0, 1)] if tiny else product(sizes, (0, 2), (1, 2)):
        turns = {threads: partial(run_seconds, steps, workers, threads, *size) for threads in ("1", "auto")}
        with busy(others):
            seconds = take_turns(turns, 1 if tiny else ROUNDS)
        gpt = " × ".join(word.split("=")[1] for word in size[:2])
        each = [f"{1000 * statistics.median(durations) / steps:.0f}" for durations in seconds.values()]
        rows.append([gpt, others, workers, *each, spread(ratios(seconds["auto"], seconds["1"]))])
        print(rows[-1], file=sys.stderr, flush=True)
    return Section(
        "Threads on a busy machine",
        "Two cells of the quickstart (64 rows), by one worker and by two, alone and beside processes that "
        f"spin; `hardware.threads=1` and `auto` in turns, {ROUNDS} rounds. The last column is the time with "
        "`auto` as a multiple of that on one thread: median, least and most.",
        table(
            ["GPT", "busy processes", "workers", "1 thread, ms a step", "`auto`", "times one thread"], rows
        ),
    )
