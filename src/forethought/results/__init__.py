"""Results files of a run: schema, writing, reading and collection."""

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
