"""Sweep bookkeeping: what a cell is called, who is at work on it, and where everything stands."""

from forethought.sweep.cell import Cell
from forethought.sweep.grid import GRID_FILE, Grid, add_to_grid, read_grid
from forethought.sweep.identity import cell_name
from forethought.sweep.lock import Locked, is_locked, lock
from forethought.sweep.pool import Ended, run_jobs
from forethought.sweep.progress import Progress, clear
from forethought.sweep.status import CellStatus, cell_status, sweep_status

__all__ = [
    "GRID_FILE",
    "Cell",
    "CellStatus",
    "Ended",
    "Grid",
    "Locked",
    "Progress",
    "add_to_grid",
    "cell_name",
    "cell_status",
    "clear",
    "is_locked",
    "lock",
    "read_grid",
    "run_jobs",
    "sweep_status",
]
