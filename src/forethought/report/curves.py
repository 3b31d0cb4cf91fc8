"""The learning curves of one run, column by column."""

from pathlib import Path

from forethought.results import read_curves

Curves = dict[str, tuple[list[float], list[float]]]
"""For each column, the steps at which it has a value, and the values."""


def curves(folder: Path, cell: str) -> Curves:
    """Those of a cell in a sweep's folder, or of the run whose folder this is; empty without a file."""
    path = (folder / cell if (folder / cell).is_dir() else folder) / "metrics.csv"
    columns: Curves = {}
    for row in read_curves(path):
        for name, number in row.items():
            if name != "step":
                steps, numbers = columns.setdefault(name, ([], []))
                steps.append(row["step"])
                numbers.append(number)
    return columns
