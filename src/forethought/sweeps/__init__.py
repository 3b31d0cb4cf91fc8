"""Sweep bookkeeping: cells and their identity, the grid, locks, signals, states and time left."""

from forethought.results import GRID_FILE, Grid, read_grid
from forethought.sweeps.cell import CELL_FILE, Cell, read_cell
from forethought.sweeps.grid import add_to_grid, read_planned_cells
from forethought.sweeps.identity import NOT_IDENTITY, cell_name, fingerprint
from forethought.sweeps.lock import Locked, is_locked, lock
from forethought.sweeps.signals import (
    SIGNALS,
    Stopped,
    defer_signals,
    install_deferring_handlers,
    pending_signal,
    raise_on_signal,
)
from forethought.sweeps.status import (
    STATES,
    CellStatus,
    cell_status,
    duration,
    is_run,
    summarise,
    sweep_seconds_left,
    sweep_status,
)

__all__ = [
    "CELL_FILE",
    "GRID_FILE",
    "NOT_IDENTITY",
    "SIGNALS",
    "STATES",
    "Cell",
    "CellStatus",
    "Grid",
    "Locked",
    "Stopped",
    "add_to_grid",
    "cell_name",
    "cell_status",
    "defer_signals",
    "duration",
    "fingerprint",
    "install_deferring_handlers",
    "is_locked",
    "is_run",
    "lock",
    "pending_signal",
    "raise_on_signal",
    "read_cell",
    "read_grid",
    "read_planned_cells",
    "summarise",
    "sweep_seconds_left",
    "sweep_status",
]
