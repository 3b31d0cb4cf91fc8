"""metrics.csv: the learning curves of a run."""

import csv
import io
from pathlib import Path

from forethought.errors import InputError
from forethought.results.store import write_atomically


def write_curves(path: Path, rows: list[dict[str, float]]) -> None:
    """Write a row for each step with a measurement. Columns without a value at that step are empty."""
    columns = dict.fromkeys(column for row in rows for column in row)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(columns), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue())


def read_curves(path: Path) -> list[dict[str, float]]:
    """Load the rows without their empty columns. Empty if the file is missing.

    Raises:
        InputError: the file is not a file of learning curves.
    """
    if not path.exists():
        return []
    try:
        with open(path, encoding="utf-8", newline="") as file:
            table = list(csv.DictReader(file, strict=True))
        rows = [{name: float(value) for name, value in row.items() if value} for row in table]
        whole = all(row["step"].is_integer() for row in rows)
    except (OSError, ValueError, TypeError, KeyError, csv.Error):
        whole = False
    if not whole:
        raise InputError(f"{path}: corrupt, no learning curves; expected numbers and a column `step`")
    return rows
