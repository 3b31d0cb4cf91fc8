"""`dry_run=true`: what would run, and how long it would take."""

import json
import time

from forethought.run.probe import seconds_of_run
from forethought.sweep import Cell

_PROBE_SECONDS = 20


def print_plan(
    finished: list[Cell], waiting: list[Cell], impossible: dict[str, str], runs_here: bool
) -> None:
    for cell in finished:
        print(f"finished    {cell.name}")
    for name, reason in impossible.items():
        print(f"impossible  {name}: {reason}")
    for cell in waiting:
        print(f"would run   {cell.name}")
    count = len(finished) + len(waiting) + len(impossible)
    print(f"{count} cells: {len(finished)} finished, {len(waiting)} to run, {len(impossible)} impossible")
    if waiting and runs_here:
        minutes = estimate(waiting) / 60
        print(f"at most {minutes:.1f} minutes one after another, by a probe of a few steps on this machine")


def estimate(cells: list[Cell]) -> float:
    """Seconds for all cells to their last step; cells that differ only in seed are probed once."""
    alike: dict[str, list[Cell]] = {}
    for cell in cells:
        alike.setdefault(json.dumps({**cell.config, "seed": 0}, sort_keys=True), []).append(cell)
    began, measured, total = time.perf_counter(), 0, 0.0
    for group in alike.values():
        if measured and time.perf_counter() - began > _PROBE_SECONDS:
            break
        total += len(group) * seconds_of_run(group[0].config)
        measured += len(group)
    return total * len(cells) / measured
