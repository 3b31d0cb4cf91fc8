"""The files that a run leaves on disk: schema, atomic writing, reading and collecting."""

from forethought.results.curves import read_curves, write_curves
from forethought.results.schema import MEASURES, RESULTS_FILE, TO_SOLVE, Example, Results, Stretch, Verdict
from forethought.results.store import (
    GRID_FILE,
    Grid,
    collect,
    list_strangers,
    read_grid,
    read_json,
    read_results,
    write_atomically,
)
from forethought.results.stretches import STRETCHES_FILE, add_stretch, read_stretches, seconds_left
from forethought.results.wandb_folder import WANDB_ID_FILE, is_at_wandb, wandb_folder

__all__ = [
    "GRID_FILE",
    "MEASURES",
    "RESULTS_FILE",
    "STRETCHES_FILE",
    "TO_SOLVE",
    "WANDB_ID_FILE",
    "Example",
    "Grid",
    "Results",
    "Stretch",
    "Verdict",
    "add_stretch",
    "collect",
    "is_at_wandb",
    "list_strangers",
    "read_curves",
    "read_grid",
    "read_json",
    "read_results",
    "read_stretches",
    "seconds_left",
    "wandb_folder",
    "write_atomically",
    "write_curves",
]
