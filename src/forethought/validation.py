"""Types, ranges and choices of arguments, checked by the annotations of the class that takes them.

A constructor's signature is its schema: the same check serves the command line, a user's own class
named by `_target_`, and a notebook that calls the class directly.
"""

from typing import Any, TypeVar, dataclass_transform

from pydantic import ConfigDict, ValidationError, validate_call
from pydantic.dataclasses import dataclass

from forethought.errors import InputError

C = TypeVar("C", bound=type)

# Strict: "3" is no integer and 1 is no boolean, so that a typo is never silently converted.
_STRICT = ConfigDict(strict=True, extra="forbid", arbitrary_types_allowed=True)

validated = validate_call(config=_STRICT)
"""Decorator for a function or `__init__` whose arguments come from a config."""


@dataclass_transform(kw_only_default=True)
def validated_dataclass(cls: C) -> C:
    """Decorator for a class whose fields are the keys of a config node."""
    return dataclass(config=_STRICT, kw_only=True)(cls)  # type: ignore[return-value]


def explain(error: ValidationError, prefix: str) -> InputError:
    """The first complaint as one line that names the key, the value and what would be accepted."""
    first: dict[str, Any] = dict(error.errors()[0])
    where, messages = first["loc"], [first["msg"]]
    if len(where) > 1 and isinstance(where[-1], str):  # one of several types, none of which fits
        where = where[:-1]
        messages = [other["msg"] for other in error.errors() if other["loc"][:-1] == where]
    key = ".".join([prefix, *(str(part) for part in where)]).lstrip(".")
    if first["type"] == "value_error":
        return InputError(str(first["ctx"]["error"]))
    if first["type"].startswith("missing"):
        return InputError(f"{key}: a value is needed")
    message = (
        " or ".join(messages).replace("Input should be ", "expected ", 1).replace("Input should be ", "")
    )
    return InputError(f"{key}={first['input']}: {message}")
