"""Sweep bookkeeping: what a cell is called, who is at work on it, and where everything stands."""

from forethought.sweep.cell import Cell
from forethought.sweep.grid import GRID_FILE, Grid, add_to_grid, read_grid
from forethought.sweep.identity import cell_name
from forethought.sweep.lock import Locked, is_locked, lock
from forethought.sweep.pool import Ended, run_jobs
from forethought.sweep.progress import Progress, clear
from forethought.sweep.session import SESSION_FILE, begin_session
from forethought.sweep.signals import (
    SIGNALS,
    Stopped,
    note_signals,
    noted,
    noted_signals,
    stopping_signals,
)
from forethought.sweep.status import STATES, CellStatus, cell_status, duration, seconds_left, sweep_status

__all__ = [
    "GRID_FILE",
    "SESSION_FILE",
    "SIGNALS",
    "STATES",
    "Cell",
    "CellStatus",
    "Ended",
    "Grid",
    "Locked",
    "Progress",
    "Stopped",
    "add_to_grid",
    "begin_session",
    "cell_name",
    "cell_status",
    "clear",
    "duration",
    "is_locked",
    "lock",
    "note_signals",
    "noted",
    "noted_signals",
    "read_grid",
    "run_jobs",
    "seconds_left",
    "stopping_signals",
    "sweep_status",
]
