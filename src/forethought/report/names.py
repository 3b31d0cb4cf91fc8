"""What a person's short name for a parameter or a metric stands for."""

import re
from collections.abc import Iterable
from difflib import get_close_matches

from forethought.errors import InputError


def full_name(name: str, names: Iterable[str], option: str, kind: str) -> str:
    """`degree` → `task.degree`, `accuracy` → `test/accuracy`; a full name stands for itself.

    Raises:
        InputError: it stands for none of `names`, each of that kind, or for several.
    """
    names = list(names)
    found = [name] if name in names else [each for each in names if short(each) == name]
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(f"{option}: {name} may be {' or '.join(found)}; expected it written out")
    # `token_accuracy_<i>` once, not for every position.
    shown = list(dict.fromkeys(re.sub(r"_\d+$", "_<i>", each) for each in names))
    by_short = {short(each): each for each in reversed(shown)}
    close = get_close_matches(name, [*shown, *by_short], n=5)
    ordered = dict.fromkeys([by_short.get(each, each) for each in close] + shown)
    raise InputError(f"{option}: {name}: no {kind}; expected one of {', '.join(ordered) or 'none'}")


def short(name: str) -> str:
    """`task.degree` → `degree`, `test/accuracy` → `accuracy`."""
    return re.split(r"[./]", name)[-1]
