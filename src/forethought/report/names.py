"""Short names of parameters and metrics."""

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from forethought.errors import InputError


def resolve_name(name: str, names: Iterable[str], option: str, kind: str) -> str:
    """Return the full name: `degree` → `task.degree`, `accuracy` → `test/accuracy`.

    Args:
        option: the start of an error message, such as `--x=degree`.
        kind: the word for a name in an error message, such as `metric`.

    Raises:
        InputError: the name is unknown or ambiguous.
    """
    names = list(names)
    matches = [name] if name in names else [full for full in names if shorten_name(full) == name]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise InputError(f"{option}: ambiguous {kind}; expected one of {', '.join(matches)}")
    # List `token_accuracy_<i>` once instead of once for every position.
    listed = list(dict.fromkeys(re.sub(r"_\d+$", "_<i>", full) for full in names))
    full_names = {shorten_name(full): full for full in reversed(listed)}
    close = get_close_matches(name, [*listed, *full_names], n=5)
    ordered = dict.fromkeys([full_names.get(match, match) for match in close] + listed)
    raise InputError(f"{option}: unknown {kind}; expected one of {', '.join(ordered) or 'none'}")


def shorten_name(name: str) -> str:
    """Return the last part: `task.degree` → `degree`, `test/accuracy` → `accuracy`."""
    return re.split(r"[./]", name)[-1]


def shorten_names(names: Sequence[str]) -> list[str]:
    """Return the last part of each name, or the full name if several have the same last part."""
    short = [shorten_name(name) for name in names]
    return [part if short.count(part) == 1 else name for part, name in zip(short, names, strict=True)]
