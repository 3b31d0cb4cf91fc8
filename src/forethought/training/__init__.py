"""Training: a composed config becomes one finished run on disk."""

from forethought.training.build import Run, build, check, describe_train_file
from forethought.training.flops import count_flops
from forethought.training.load import evaluate_run, load, write_evaluation
from forethought.training.run import (
    discard_run,
    record_failure,
    refuse_folder_of_another,
    run_cell,
    send_finished,
)
from forethought.training.train import Session

__all__ = [
    "Run",
    "Session",
    "build",
    "check",
    "count_flops",
    "describe_train_file",
    "discard_run",
    "evaluate_run",
    "load",
    "record_failure",
    "refuse_folder_of_another",
    "run_cell",
    "send_finished",
    "write_evaluation",
]
