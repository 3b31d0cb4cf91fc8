"""One flat function: a composed config in, one finished run on disk out."""

from forethought.run.build import Parts, build, check, construct
from forethought.run.cell import record_failure, run_cell
from forethought.run.load import evaluate_run, load_run
from forethought.run.train import train

__all__ = [
    "Parts",
    "build",
    "check",
    "construct",
    "evaluate_run",
    "load_run",
    "record_failure",
    "run_cell",
    "train",
]
