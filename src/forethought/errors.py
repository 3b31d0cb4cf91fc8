"""The exceptions a user can cause, and how they name what would be accepted."""

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(Exception):
    """What the user asked for cannot be done; the message is one line and says what would be accepted.

    The command line prints it as it is and exits with code 2. Every other exception is our own bug and
    keeps its traceback.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.splitlines()))  # what is quoted from a file may have several


class Impossible(InputError):
    """Values that are fine by themselves but do not go together.

    A sweep leaves such a cell out and says why; any other `InputError` stops it before it begins.
    """


def expected_one_of(accepted: Iterable[str], given: str = "") -> str:
    """`expected one of a, b, c`, then the one that is spelt, or has a word spelt, almost as `given`."""
    names = list(accepted)
    words = {word: name for name in reversed(names) for word in (*name.split("_"), name)}
    close = get_close_matches(given, words, n=1)
    hint = f"; did you mean {words[close[0]]}?" if close else ""
    if len(names) < 2:
        return f"expected {names[0] if names else 'none'}"
    return f"expected one of {', '.join(names)}{hint}"
