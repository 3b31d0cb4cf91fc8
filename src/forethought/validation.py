"""Types, ranges and choices of arguments, checked by the annotations of the class that takes them.

A constructor's signature is its schema: the same check serves the command line, a user's own class
named by `_target_`, and a notebook that calls the class directly.
"""

import json
import re
from typing import Annotated, Any, TypeVar, dataclass_transform

from pydantic import ConfigDict, Field, ValidationError, validate_call
from pydantic.dataclasses import dataclass

from forethought.errors import InputError, expected_one_of

C = TypeVar("C", bound=type)

# More is a slip of the finger, and would take hours to build.
Layers = Annotated[int, Field(gt=0, le=1000)]

# Strict: "3" is no integer and 1 is no boolean, so that a typo is never silently converted.
_STRICT = ConfigDict(strict=True, extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False)

validated = validate_call(config=_STRICT)
"""Decorator for a function or `__init__` whose arguments come from a config."""


@dataclass_transform(kw_only_default=True)
def validated_dataclass(cls: C) -> C:
    """Decorator for a class whose fields are the keys of a config node."""
    return dataclass(config=_STRICT, kw_only=True)(cls)  # type: ignore[return-value]


def explain(error: ValidationError, prefix: str) -> InputError:
    """The first complaint as one line that names the key, the value and what would be accepted."""
    first: dict[str, Any] = dict(error.errors()[0])
    where, complaints = first["loc"], [first]
    if len(where) > 1 and isinstance(where[-1], str):  # one of several types, none of which fits
        where = where[:-1]
        complaints = [dict(other) for other in error.errors() if other["loc"][:-1] == where]
    key = ".".join([prefix, *(str(part) for part in where)]).lstrip(".")
    if first["type"] == "value_error":
        return InputError(str(first["ctx"]["error"]))
    if first["type"].startswith("missing"):
        return InputError(f"{key}: a value is needed")
    accepted = " or ".join(map(_expected, complaints)).replace(" or expected ", " or ")
    return InputError(f"{key}={_as_typed(first['input'])}: {accepted}")


def _expected(complaint: dict[str, Any]) -> str:
    kind, context = complaint["type"], complaint.get("ctx", {})
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'", context["expected"])
        return expected_one_of(choices, str(complaint["input"]))
    if kind == "bool_type":
        return "expected true or false"
    if kind in ("too_short", "too_long"):
        return f"expected {context.get('min_length', context.get('max_length'))} values"
    if kind == "string_too_short":
        return "expected a text that is not empty"
    return str(complaint["msg"]).replace("Input should be ", "expected ", 1)


def _as_typed(value: Any) -> str:
    """As one would write it on the command line."""
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)
