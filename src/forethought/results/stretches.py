""".stretches.json: every start and resume of a run, for time estimates and for results.json."""

import json
import time
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from forethought.errors import InputError
from forethought.results.schema import Stretch
from forethought.results.store import read_json, write_atomically

STRETCHES_FILE = ".stretches.json"


def add_stretch(folder: Path, stretch: Stretch) -> None:
    """Append a stretch to those of the run in this folder."""
    stretches = [each.model_dump() for each in [*read_stretches(folder), stretch]]
    write_atomically(folder / STRETCHES_FILE, json.dumps(stretches, indent=1) + "\n")


def read_stretches(folder: Path) -> list[Stretch]:
    """Load the stretches of a run; none before its training starts.

    Raises:
        InputError: the file is something else.
    """
    path = folder / STRETCHES_FILE
    if not path.exists():
        return []
    try:
        return TypeAdapter(list[Stretch]).validate_python(read_json(path))
    except ValidationError:
        raise InputError(f"{path}: not the stretches of a run; expected a file of forethought") from None


def seconds_left(stretch: Stretch, step: int, at: float) -> float | None:
    """Estimate the seconds to the last step at the pace so far. None before the first evaluation.

    Args:
        step: a step that the run has reached.
        at: when it did, in seconds since the epoch.
    """
    if step <= stretch.first_step or at <= stretch.began:
        return None
    pace = (step - stretch.first_step) / (at - stretch.began)
    return max(0.0, (stretch.last_step - step) / pace - (time.time() - at))
