"""The run-time type checker of the tests; as in PEP 484, an int will do where a float is asked for."""

from typing import Any

from beartype import BeartypeConf, beartype

_check = beartype(conf=BeartypeConf(is_pep484_tower=True))


def check(function):
    """Check a function that jaxtyping generates: one for the arguments, then one for the result as well.

    The second one checks the result alone. The names of the dimensions are still bound to the arguments'
    sizes, and tests of models take a fifth less time.
    """
    if function.__annotations__.get("return", Any) is not Any:
        function.__annotations__ = {"return": function.__annotations__["return"]}
    return _check(function)
