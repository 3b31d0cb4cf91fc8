"""`forethought status` and `forethought report`: read results, never torch."""

import shlex
from collections import Counter
from pathlib import Path

from forethought.errors import InputError
from forethought.sweep import sweep_status


def status(arguments: list[str]) -> int:
    folder = _one_folder("status", arguments)
    cells = sweep_status(folder)
    width = max((len(cell.name) for cell in cells), default=0)
    for cell in cells:
        print(f"{cell.state:<12} {cell.name:<{width}}  {cell.detail}")
    counts = Counter(cell.state for cell in cells)
    print(f"{len(cells)} cells: " + ", ".join(f"{count} {state}" for state, count in counts.items()))
    return 0


def report(arguments: list[str]) -> int:
    from forethought.report import print_table, write_report

    folder = _one_folder("report", arguments)
    page = write_report(folder)
    print_table(folder)
    print(f"report: {page}")
    return 0


def _one_folder(command: str, arguments: list[str]) -> Path:
    if len(arguments) != 1:
        raise InputError(f"{shlex.join([command, *arguments])}: expected one folder of a sweep or run")
    return Path(arguments[0])
