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


def collect(sweep: Path) -> dict[Path, Results]:
    """Load the results of every run in the folder of a sweep or of a run, by folder, ordered by cell.

    Raises:
        InputError: the folder is missing, or a results file in it is corrupt.
    """
    if not sweep.is_dir():
        raise InputError(f"{sweep}: no such folder; expected the folder of a sweep or of a run")
    folders = [sweep, *sorted(path for path in sweep.iterdir() if path.is_dir())]
    return {folder: results for folder in folders if (results := read_results(folder)) is not None}
