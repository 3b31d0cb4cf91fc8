"""Sweep bookkeeping: what a cell is called, who is at work on it, and where everything stands."""

from forethought.sweep.cell import Cell
from forethought.sweep.grid import GRID_FILE, Grid, add_to_grid, read_grid
from forethought.sweep.identity import cell_name
from forethought.sweep.lock import Locked, is_locked, lock
from forethought.sweep.pool import Ended, run_jobs
from forethought.sweep.progress import Progress, clear
from forethought.sweep.signals import (
    SIGNALS,
    Stopped,
    note_signals,
    noted,
    noted_signals,
    stopping_signals,
)
from forethought.sweep.status import CellStatus, cell_status, sweep_status

__all__ = [
    "GRID_FILE",
    "SIGNALS",
    "Cell",
    "CellStatus",
    "Ended",
    "Grid",
    "Locked",
    "Progress",
    "Stopped",
    "add_to_grid",
    "cell_name",
    "cell_status",
    "clear",
    "is_locked",
    "lock",
    "note_signals",
    "noted",
    "noted_signals",
    "read_grid",
    "run_jobs",
    "stopping_signals",
    "sweep_status",
]
