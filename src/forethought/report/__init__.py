"""Tables, plots and one HTML page from results files, without torch and without a model."""

from forethought.report.load import load
from forethought.report.seeds import mcnemar, wilson
from forethought.report.table import print_table
from forethought.report.write import write_report

__all__ = ["load", "mcnemar", "print_table", "wilson", "write_report"]
