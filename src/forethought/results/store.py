"""Reading and atomic writing of results files."""

import json
import os
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from forethought.errors import InputError
from forethought.results.schema import RESULTS_FILE, Results


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file completely or not at all, also if the process is killed or the disk is full.

    Raises:
        OSError: the file could not be written; an earlier file of the same name is unchanged.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    """Load a JSON file.

    Raises:
        InputError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; expected a file written by forethought") from None
    except (ValueError, RecursionError):
        raise InputError(f"{path}: corrupt, not JSON; expected a file written by forethought") from None


def read_results(folder: Path) -> Results | None:
    """Load the results of the run in a folder. None if the file is missing.

    Raises:
        InputError: the file is not a results file of this schema version.
    """
    path = folder / RESULTS_FILE
    if not path.exists():
        return None
    try:
        return Results.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        complaint = f"{place}: {first['msg']}" if place else first["msg"]
        raise InputError(
            f"{path}: {complaint}; expected a file of schema_version 1, written by forethought"
        ) from None


GRID_FILE = "grid.json"

Grid = dict[str, list[str]]
"""Command-line words (flags first, then overrides) by name of cell."""


def read_grid(sweep: Path) -> Grid:
    """Load the grid of a sweep.

    Raises:
        InputError: not the folder of a sweep.
    """
    path = sweep / GRID_FILE
    if not path.exists():
        reason = f"has no {GRID_FILE}" if sweep.is_dir() else "no such folder"
        raise InputError(f"{sweep}: {reason}; pass the folder of a sweep")
    grid = read_json(path)
    if not isinstance(grid, dict) or not all(isinstance(words, list) for words in grid.values()):
        raise InputError(f"{path}: corrupt, not a grid of cells; expected a file written by forethought")
    return {name: [str(word) for word in words] for name, words in grid.items()}


def collect(folder: Path) -> dict[Path, Results]:
    """Load the results of every run of a sweep, or of a single run, by folder, ordered by cell.

    A sweep consists of the cells in its grid.json. In a folder without a grid, a run counts once, however
    often it was copied.

    Raises:
        InputError: the folder is missing, a results file in it is corrupt, or a cell holds another run.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected the folder of a sweep or of a run")
    if (folder / GRID_FILE).exists():
        cells = [folder / name for name in sorted(read_grid(folder))]
        runs = {path: results for path in cells if (results := read_results(path)) is not None}
        for path, results in runs.items():
            if results.cell != path.name:
                raise InputError(f"{path}: holds the run {results.cell}; delete or move this copy")
    elif (single := read_results(folder)) is not None:
        runs = {folder: single}
    else:
        runs = _without_copies({path: read_results(path) for path in _folders_with_results(folder)})
    return runs


def list_strangers(folder: Path) -> list[str]:
    """Return a line for each folder with results that `collect` does not count."""
    paths = _folders_with_results(folder)
    if (folder / GRID_FILE).exists():
        grid = read_grid(folder)
        return [f"{path}: not in {GRID_FILE}; not counted" for path in paths if path.name not in grid]
    if (folder / RESULTS_FILE).exists():
        return [f"{path}: lies in a run; not counted" for path in paths]
    runs = {path: read_results(path) for path in paths}
    originals = _without_copies(runs)
    return [f"{path}: a copy of a run beside it; not counted" for path in paths if path not in originals]


def _folders_with_results(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob(f"*/{RESULTS_FILE}"))


def _without_copies(runs: dict[Path, Results | None]) -> dict[Path, Results]:
    """Return each run once. A run in the folder of its own name is the original of its copies."""
    known = {path: results for path, results in runs.items() if results is not None}
    originals: dict[str, Path] = {}
    for path in sorted(known, key=lambda path: known[path].cell != path.name):
        originals.setdefault(known[path].cell, path)
    return {path: results for path, results in known.items() if originals[results.cell] == path}
