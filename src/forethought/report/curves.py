"""Learning curves of one run, by column of `metrics.csv`."""

from pathlib import Path

from forethought.results import read_curves

Curves = dict[str, tuple[list[float], list[float]]]
"""For each column: the steps at which the column has a value, and the values."""


def load_curves(folder: Path, cell: str) -> Curves:
    """Load the curves of a cell from the folder of its sweep or of the run. Empty if the file is missing."""
    path = (folder / cell if (folder / cell).is_dir() else folder) / "metrics.csv"
    columns: Curves = {}
    for row in read_curves(path):
        for name, number in row.items():
            if name != "step":
                steps, numbers = columns.setdefault(name, ([], []))
                steps.append(row["step"])
                numbers.append(number)
    return columns
