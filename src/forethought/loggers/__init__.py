"""Loggers: `metrics.csv`, which every run writes, and Weights & Biases. Lightning's own fit as well."""

from forethought.loggers.curves import CurvesLogger

__all__ = ["CurvesLogger"]
