"""From results files to tables, plots and one HTML page. Never torch, never a model."""

from forethought.report.load import load
from forethought.report.seeds import wilson
from forethought.report.table import print_table
from forethought.report.write import write_report

__all__ = ["load", "print_table", "wilson", "write_report"]
