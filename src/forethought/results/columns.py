"""Names of the columns of runs, in a DataFrame and in a CSV file."""

IDENTITY = ("cell", "sweep", "folder", "status", "verdict", "reason", "seed")
PROVENANCE = ("date", "command", "commit", "dirty", "host", "cpu", "versions")
"""Fields of the last stretch of training."""
OBJECTS = ("decision_positions", "grad_flow", "gradient_split", "attention", "probes", "examples")
"""Columns of Python objects. The columns to their right are the metrics."""
