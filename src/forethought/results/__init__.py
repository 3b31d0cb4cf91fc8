"""The files that a run leaves on disk: schema, atomic writing, reading and collecting."""

from forethought.results.curves import read_curves, write_curves
from forethought.results.schema import RESULTS_FILE, Example, Results, Stretch, Verdict
from forethought.results.store import collect, read_json, read_results, write_atomically
from forethought.results.stretches import STRETCHES_FILE, add_stretch, read_stretches, seconds_left
from forethought.results.wandb_folder import WANDB_ID_FILE, wandb_folder

__all__ = [
    "RESULTS_FILE",
    "STRETCHES_FILE",
    "WANDB_ID_FILE",
    "Example",
    "Results",
    "Stretch",
    "Verdict",
    "add_stretch",
    "collect",
    "read_curves",
    "read_json",
    "read_results",
    "read_stretches",
    "seconds_left",
    "wandb_folder",
    "write_atomically",
    "write_curves",
]
