"""Loading of results from disk."""

from pathlib import Path

from forethought.report.groups import Sweep, group_runs
from forethought.report.where import select_runs
from forethought.results import collect


def load_sweep(folder: Path, where: str | None = None, **axes: str | None) -> Sweep:
    """Load the runs of a sweep or a single run, restricted to those that match the filter `where`.

    Args:
        axes: requested names for x, y, hue and metric (`choose_axes`).

    Raises:
        InputError: the folder or its results are missing or corrupt, or the filter or an axis is invalid.
    """
    runs = collect(folder)
    if where is not None:
        runs = select_runs(group_runs(runs, folder), where)
    return group_runs(runs, folder, where, **axes)
