"""A lock that lets one process at a time run a cell."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK_FILE = ".lock"
_ATTEMPTS = 10


class Locked(Exception):
    """Another process is running this cell."""


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold a cell's folder. The kernel releases the lock with the process, however that ends.

    Raises:
        Locked: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LOCK_FILE, "w") as file:
        # `is_locked` in another process holds the lock too, for an instant.
        for attempt in range(_ATTEMPTS):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if attempt == _ATTEMPTS - 1:
                    raise Locked(f"{folder}: another process is running this cell") from None
                time.sleep(0.01)
        yield


def is_locked(folder: Path) -> bool:
    """Tell whether a process is running the cell in this folder."""
    try:
        with open(folder / LOCK_FILE) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
