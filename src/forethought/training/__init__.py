"""One flat function: a composed config in, one finished run on disk out."""

from forethought.run.build import Parts, build, check, construct
from forethought.run.cell import record, run_cell
from forethought.run.load import evaluate_run, load_run
from forethought.run.replicable import check_replicas
from forethought.run.together import train_together
from forethought.run.train import train

__all__ = [
    "Parts",
    "build",
    "check",
    "check_replicas",
    "construct",
    "evaluate_run",
    "load_run",
    "record",
    "run_cell",
    "train",
    "train_together",
]
