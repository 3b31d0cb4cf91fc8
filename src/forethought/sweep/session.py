"""`.session.json`: since when and from which step a run is training, for who asks how long it will take."""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from forethought.errors import InputError
from forethought.results import read_json, write_atomically

SESSION_FILE = ".session.json"


@dataclass
class Session:
    """One stretch of training, from a start or a resume.

    Args:
        began: seconds since the epoch.
    """

    first_step: int
    last_step: int
    began: float

    def seconds_left(self, step: int, at: float) -> float | None:
        """To the last step, at the pace so far; None before there is one.

        Args:
            step: a step that it has reached.
            at: when, in seconds since the epoch.
        """
        if step <= self.first_step or at <= self.began:
            return None
        pace = (step - self.first_step) / (at - self.began)
        return max(0.0, (self.last_step - step) / pace - (time.time() - at))


def begin_session(folder: Path, first_step: int, last_step: int) -> None:
    session = Session(first_step, last_step, time.time())
    write_atomically(folder / SESSION_FILE, json.dumps(asdict(session)) + "\n")


def read_session(folder: Path) -> Session | None:
    """None before training has begun.

    Raises:
        InputError: the file is something else.
    """
    path = folder / SESSION_FILE
    if not path.exists():
        return None
    try:
        return TypeAdapter(Session).validate_python(read_json(path))
    except ValidationError:
        raise InputError(f"{path}: no times of a run; expected a file written by forethought") from None
