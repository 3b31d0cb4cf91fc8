"""The run-time type checker of the tests; as in PEP 484, an int will do where a float is asked for.

Each test checks the first calls of every function, and no more: checking all calls took more than half of
the time of tests that train.
"""

import functools
import inspect
import sys
from collections import Counter
from typing import Any

from beartype import BeartypeConf, beartype

CALLS = 3
_check = beartype(conf=BeartypeConf(is_pep484_tower=True))
_calls: Counter[tuple[str, str]] = Counter()
_seen: list[Any] = []


def check(function):
    """Check a function that jaxtyping generates: one for the arguments, then one for the result as well.

    The second one checks the result alone. The names of the dimensions are still bound to the arguments'
    sizes, and tests of models take a fifth less time. Checkers are made at the first call: most functions of
    the package are not called by a test.
    """
    checks_result = function.__annotations__.get("return", Any) is not Any
    if checks_result:
        function.__annotations__ = {"return": function.__annotations__["return"]}
    name = function.__module__, function.__qualname__
    checker = functools.cache(lambda: _check(function))

    @functools.wraps(function)
    def counted(*arguments, **options):
        if checks_result:
            _calls[name] += 1
            if _calls[name] == CALLS:
                _stop_checking(*name)
        return checker()(*arguments, **options)

    return counted


def start_checking() -> None:
    """Check the first calls of every function again."""
    _calls.clear()
    for function in _seen:
        vars(function).pop("__no_type_check__", None)
    _seen.clear()


def _stop_checking(module: str, qualified_name: str) -> None:
    """Set the mark at which jaxtyping passes a call on. A function inside another one is always checked."""
    found: Any = sys.modules[module]
    for name in qualified_name.split("."):
        try:
            found = inspect.getattr_static(found, name)
        except AttributeError:
            return
    found = found.fget if isinstance(found, property) else getattr(found, "__func__", found)
    while inspect.isfunction(found):  # jaxtyping's own is under further decorators
        found.__no_type_check__ = True
        _seen.append(found)
        found = getattr(found, "__wrapped__", None)
