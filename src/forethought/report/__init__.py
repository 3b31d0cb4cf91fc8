"""Tables, plots and one HTML page from results files, without torch and without a model."""

from forethought.report.seeds import mcnemar, wilson
from forethought.report.sweep import Sweep, build_sweep
from forethought.report.table import print_table
from forethought.report.write import write_report

__all__ = ["Sweep", "build_sweep", "mcnemar", "print_table", "wilson", "write_report"]
