"""What a finished run leaves on disk: its schema, and how it is written, read and collected."""

from forethought.results.curves import read_curves, write_curves
from forethought.results.schema import RESULTS_FILE, Example, Results, Verdict
from forethought.results.store import collect, read_json, read_results, write_atomically

__all__ = [
    "RESULTS_FILE",
    "Example",
    "Results",
    "Verdict",
    "collect",
    "read_curves",
    "read_json",
    "read_results",
    "write_atomically",
    "write_curves",
]
