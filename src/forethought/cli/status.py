"""`forethought status`: where each cell of a sweep stands; never torch."""

import json
import shlex
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from forethought.errors import InputError
from forethought.sweep import CellStatus, duration, seconds_left, sweep_status


def status(arguments: list[str]) -> int:
    flags = [word for word in arguments if word.startswith("--")]
    folders = [word for word in arguments if word not in flags]
    if len(folders) != 1:
        raise InputError(f"{shlex.join(['status', *arguments])}: expected one folder of a sweep")
    folder = Path(folders[0])
    if flags not in ([], ["--watch"], ["--json"]):
        raise InputError(f"status {' '.join(flags)}: expected --watch or --json")
    if flags == ["--watch"]:
        from forethought.cli.watch import watch

        watch(folder)
        return 0
    cells = sweep_status(folder)
    if flags == ["--json"]:
        print(json.dumps([asdict(cell) for cell in cells], indent=1))
        return 0
    for line in lines(cells):
        print(line)
    print(summary(cells))
    return 0


def lines(cells: list[CellStatus]) -> list[str]:
    """One for each cell."""
    width = max((len(cell.name) for cell in cells), default=0)
    return [f"{cell.state:<12} {cell.name:<{width}}  {cell.detail}".rstrip() for cell in cells]


def summary(cells: list[CellStatus]) -> str:
    """How many cells are in which state, and how long it will take."""
    counts = Counter(cell.state for cell in cells)
    words = [f"{count} {state}" for state, count in counts.items()]
    left = seconds_left(cells)
    words += [] if left is None else [f"about {duration(left)} left"]
    return f"{len(cells)} cells: " + ", ".join(words)
