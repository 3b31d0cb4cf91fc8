"""From a folder to the sweep that a report is about."""

from pathlib import Path

from forethought.report.groups import Sweep, group
from forethought.report.where import select
from forethought.results import collect


def load(folder: Path, where: str | None = None, **asked: str | None) -> Sweep:
    """The runs in the folder of a sweep or of a run, or those for which the filter `where` holds.

    `asked` are the axes x, y, hue and metric, by name (`axes.choose`).

    Raises:
        InputError: no such folder, no results in it, a broken results file, no such filter or axis.
    """
    runs = collect(folder)
    if where is not None:
        runs = select(group(runs, folder), where)
    return group(runs, folder, where, **asked)
