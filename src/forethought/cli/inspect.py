"""`forethought status`: where each cell of a sweep stands; never torch."""

from collections import Counter
from pathlib import Path

from forethought.errors import InputError
from forethought.sweep import sweep_status


def status(arguments: list[str]) -> int:
    if len(arguments) != 1:
        raise InputError(f"status {' '.join(arguments)}: expected one folder of a sweep or run")
    cells = sweep_status(Path(arguments[0]))
    width = max((len(cell.name) for cell in cells), default=0)
    for cell in cells:
        print(f"{cell.state:<12} {cell.name:<{width}}  {cell.detail}")
    counts = Counter(cell.state for cell in cells)
    print(f"{len(cells)} cells: " + ", ".join(f"{count} {state}" for state, count in counts.items()))
    return 0
