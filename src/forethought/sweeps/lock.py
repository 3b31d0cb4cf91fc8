"""A lock that lets one process at a time run a cell."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from forethought.errors import InputError

LOCK_FILE = ".lock"
_ATTEMPTS = 10


class Locked(Exception):
    """Another process is running this cell."""


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold a cell's folder. The kernel releases the lock with the process, however that ends.

    Raises:
        Locked: another process holds it.
        InputError: the file system has no locks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LOCK_FILE, "wb") as file:
        # `is_locked` in another process holds the lock too, for an instant.
        for attempt in range(_ATTEMPTS):
            try:
                flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if attempt == _ATTEMPTS - 1:
                    raise Locked(f"{folder}: another process is running this cell") from None
                time.sleep(0.01)
        yield


def is_locked(folder: Path) -> bool:
    """Tell whether a process is running the cell in this folder.

    Raises:
        InputError: the file system has no locks.
    """
    try:
        with open(folder / LOCK_FILE, "rb") as file:
            flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def flock(file: IO[bytes], operation: int) -> None:
    """Lock a file by `fcntl.flock`.

    Raises:
        BlockingIOError: another process holds the lock.
        InputError: the file system has no locks.
    """
    try:
        fcntl.flock(file, operation)
    except BlockingIOError:
        raise
    except OSError as error:
        raise InputError(
            f"{file.name}: cannot be locked ({error.strerror}); use a file system with flock "
            "(Lustre: the mount option `flock`)"
        ) from None
