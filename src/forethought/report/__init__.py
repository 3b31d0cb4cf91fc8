"""Tables, plots and one HTML page from results files, without torch and without a model."""

from forethought.report.sweep import Sweep, build_sweep

__all__ = ["Sweep", "build_sweep"]
