"""Exceptions that a user can cause."""

import errno
from collections.abc import Iterable
from difflib import get_close_matches


class InputError(Exception):
    """A mistake of the user. The message is one line: `key=value: what is wrong; what to do`.

    The command line prints the message and exits with code 2. Every other exception is a bug of this
    project and keeps its traceback.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.splitlines()))  # a quotation from a file may have several lines


class Impossible(InputError):
    """Values that are accepted alone but not together.

    A sweep skips such a cell and prints the reason. Any other `InputError` stops the sweep before it begins.
    """


def expected_one_of(accepted: Iterable[str], given: str = "") -> str:
    """Return `expected one of a, b, c`, and a hint if a name or its part is spelt almost as `given`."""
    names = list(accepted)
    words = {word: name for name in reversed(names) for word in (*name.split("_"), name)}
    close = get_close_matches(given, words, n=1)
    hint = f"; did you mean {words[close[0]]}?" if close else ""
    if len(names) < 2:
        return f"expected {names[0] if names else 'none'}"
    return f"expected one of {', '.join(names)}{hint}"


def describe_error(error: Exception) -> str:
    """Return the message of an exception as one line, with its type unless it is a mistake of the user."""
    kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
    return f"{kind}{error}".splitlines()[0]


def first_line(error: Exception) -> str:
    """Return the first line of an error message, without its full stop; the error's name if it has none."""
    return str(error).partition("\n")[0].rstrip(".") or type(error).__name__


_OF_A_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}


def explain_os_error(error: OSError, folder: object = None) -> str:
    """Return `PATH: reason`, or the reason alone if the error names no path.

    Args:
        folder: named in place of a path if the error is one of a disk, as most of these name none.
    """
    path = folder if error.filename is None and error.errno in _OF_A_DISK else error.filename
    reason = error.strerror or str(error) or type(error).__name__
    return reason if path is None else f"{path}: {reason}"
