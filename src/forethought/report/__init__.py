"""From results files to tables, plots and one HTML page. Never torch, never a model."""

from forethought.report.load import load
from forethought.report.seeds import mcnemar, wilson
from forethought.report.table import print_table
from forethought.report.write import write_report

__all__ = ["load", "mcnemar", "print_table", "wilson", "write_report"]
