"""Writing of grid.json: every cell ever asked of a sweep, with the words that compose it."""

import fcntl
import json
from pathlib import Path

from forethought.results import GRID_FILE, read_grid, write_atomically
from forethought.sweeps.cell import Cell


def add_to_grid(sweep: Path, cells: list[Cell]) -> None:
    """Add cells to the grid. Earlier cells stay, so that a widened sweep keeps its first ones."""
    sweep.mkdir(parents=True, exist_ok=True)
    with open(sweep / ".grid.lock", "w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        earlier = read_grid(sweep) if (sweep / GRID_FILE).exists() else {}
        words = {cell.name: cell.words for cell in cells}
        write_atomically(sweep / GRID_FILE, json.dumps({**earlier, **words}, indent=1) + "\n")
