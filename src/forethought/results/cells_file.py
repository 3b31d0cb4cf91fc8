"""Runs from a CSV file, such as the `cells.csv` of a report."""

import csv
import math
from pathlib import Path
from typing import Any, NamedTuple, get_args

from forethought.errors import InputError
from forethought.results.columns import IDENTITY, OBJECTS, PROVENANCE
from forethought.results.schema import MEASURES, Status, Verdict

_REQUIRED = ("cell", "status", "verdict", "seed")
_GROUPS = ("task", "model", "objective", "optimizer", "hardware", "logger", "callbacks", "experiment")
"""Columns that name the chosen config of a group, in addition to those of `hydra/`."""
_TEXTS = {*IDENTITY, *PROVENANCE, *_GROUPS, "overrides", "device"} - {"seed", "dirty"}
"""Columns that stay text: the hash of a commit may read as a number."""
_DERIVED = {"setting", "folder", *OBJECTS}
"""Columns that are not read: a report computes its settings, and the folder may be on another machine."""


class RunTable(NamedTuple):
    records: list[dict[str, Any]]
    """Values of each run, by column. None is a missing value."""
    choices: list[str]
    metrics: list[str]


def is_file_of_runs(path: Path) -> bool:
    """Tell whether a CSV file has the columns of runs, by its header."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        return {*_REQUIRED} <= {*next(csv.reader(file), ())}


def read_cells(path: Path) -> RunTable:
    """Read a CSV file with one row a run: `cells.csv` of a report, or some of its columns.

    Required columns: `cell status verdict seed`. The values are those of the run's results files, rounded
    as in the file. Folder, curves and objects such as sample answers are missing.

    Raises:
        InputError: the file cannot be read, is not such a file, or has two rows of the same run.
    """
    try:
        # An editor of spreadsheets may have added a byte order mark.
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            header, rows = list(reader.fieldnames or ()), list(reader)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; expected a CSV file of runs") from None
    except (ValueError, csv.Error):
        raise InputError(f"{path}: corrupt, not CSV; expected a file of runs such as cells.csv") from None
    if missing := [name for name in _REQUIRED if name not in header]:
        raise InputError(
            f"{path}: not a file of runs, column {missing[0]} is missing; expected {', '.join(_REQUIRED)} "
            "and columns of cells.csv"
        )
    choices = [name for name in header if name in _GROUPS or name.startswith("hydra/")]
    metrics = [name for name in header if "/" in name and name not in choices]
    records, known = [], set()
    for number, row in enumerate(rows, start=1):
        if None in row or None in row.values():
            raise InputError(f"{path}: row {number} has too few or too many fields; expected {len(header)}")
        record = {name: _parse(name, text) for name, text in row.items() if name not in _DERIVED}
        run = (record.get("sweep"), record["cell"])
        if complaint := "a second row of the same run" if run in known else _find_fault(record, metrics):
            raise InputError(f"{path}: row {number}, cell={record['cell']}: {complaint}")
        known.add(run)
        texts = {name: record.get(name) or "" for name in ("overrides", "versions")}
        records.append(record | texts | {"decision_positions": [], "examples": []})
    return RunTable(records, choices, metrics)


def _parse(name: str, text: str) -> Any:
    if text == "":
        return None
    if name in _TEXTS or name.startswith("hydra/"):
        return text
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            pass
    return text


def _find_fault(record: dict[str, Any], metrics: list[str]) -> str | None:
    """Return what is wrong with a row. None if nothing is."""
    for name, accepted in (("status", get_args(Status)), ("verdict", (None, *get_args(Verdict)))):
        if record[name] not in accepted:
            return f"{name}={record[name]}: unknown; expected one of {', '.join(filter(None, accepted))}"
    if type(record["seed"]) is not int:
        return f"seed={record['seed']}: expected an integer"
    for name in (*MEASURES, *metrics):
        value = record.get(name)
        if value is not None and (type(value) not in (int, float) or math.isinf(value)):
            return f"{name}={value}: expected a number"
    return None
