"""Writing of grid.json: every cell ever asked of a sweep, with the words that compose it."""

import fcntl
import json
from dataclasses import replace
from pathlib import Path

from forethought.errors import InputError
from forethought.results import GRID_FILE, read_grid, read_json, write_atomically
from forethought.sweeps.cell import Cell
from forethought.sweeps.lock import flock

_CELLS_FILE = ".cells.json"


def add_to_grid(sweep: Path, cells: list[Cell]) -> None:
    """Add cells to the grid. Earlier cells stay, so that a widened sweep keeps its first ones."""
    sweep.mkdir(parents=True, exist_ok=True)
    with open(sweep / ".grid.lock", "wb") as guard:
        flock(guard, fcntl.LOCK_EX)
        earlier = read_grid(sweep) if (sweep / GRID_FILE).exists() else {}
        words = {cell.name: cell.words for cell in cells}
        # A cell that is composed once more by a resume must not be trained from scratch once more.
        planned = read_planned_cells(sweep)
        planned |= {cell.name: replace(cell, config={**cell.config, "force": False}) for cell in cells}
        text = json.dumps({name: json.loads(cell.to_json()) for name, cell in planned.items()}) + "\n"
        write_atomically(sweep / _CELLS_FILE, text)
        write_atomically(sweep / GRID_FILE, json.dumps({**earlier, **words}, indent=1) + "\n")


def read_planned_cells(sweep: Path) -> dict[str, Cell]:
    """Load the cells of a sweep as they were composed, also those that wait. Empty if the file is missing.

    Raises:
        InputError: the file is corrupt.
    """
    path = sweep / _CELLS_FILE
    if not path.exists():
        return {}
    try:
        return {name: Cell.from_json(fields) for name, fields in read_json(path).items()}
    except (TypeError, KeyError, AttributeError):
        raise InputError(f"{path}: corrupt; delete it to compose the cells from {GRID_FILE}") from None
