"""grid.json: every cell ever asked of a sweep, with the words that compose it."""

import fcntl
import json
from pathlib import Path

from forethought.errors import InputError
from forethought.results import read_json, write_atomically
from forethought.sweeps.cell import Cell
from forethought.sweeps.lock import flock

GRID_FILE = "grid.json"

Grid = dict[str, list[str]]
"""Command-line words (flags first, then overrides) by name of cell."""


def read_grid(sweep: Path) -> Grid:
    """Load the grid of a sweep.

    Raises:
        InputError: not the folder of a sweep.
    """
    path = sweep / GRID_FILE
    if not path.exists():
        reason = f"has no {GRID_FILE}" if sweep.is_dir() else "no such folder"
        raise InputError(f"{sweep}: {reason}; pass the folder of a sweep")
    grid = read_json(path)
    if not isinstance(grid, dict) or not all(isinstance(words, list) for words in grid.values()):
        raise InputError(f"{path}: corrupt, not a grid of cells; expected a file written by forethought")
    return {name: [str(word) for word in words] for name, words in grid.items()}


def add_to_grid(sweep: Path, cells: list[Cell]) -> None:
    """Add cells to the grid. Earlier cells stay, so that a widened sweep keeps its first ones."""
    sweep.mkdir(parents=True, exist_ok=True)
    with open(sweep / ".grid.lock", "wb") as guard:
        flock(guard, fcntl.LOCK_EX)
        earlier = read_grid(sweep) if (sweep / GRID_FILE).exists() else {}
        words = {cell.name: cell.words for cell in cells}
        write_atomically(sweep / GRID_FILE, json.dumps({**earlier, **words}, indent=1) + "\n")
