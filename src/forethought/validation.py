"""Types, ranges and choices of arguments, checked by the annotations of the class that takes them.

A constructor's signature is its schema: the same check serves the command line, a user's own class
named by `_target_`, and a notebook that calls the class directly.
"""

import json
import re
from typing import Annotated, Any, TypeVar, dataclass_transform

from pydantic import ConfigDict, Field, ValidationError, WrapValidator, validate_call
from pydantic.dataclasses import dataclass

from forethought.errors import InputError, expected_one_of

C = TypeVar("C", bound=type)

# More is a slip of the finger, and would take hours to build.
Layers = Annotated[int, Field(gt=0, le=1000)]

OR_NONE = WrapValidator(lambda value, validate: None if value is None else validate(value))
"""Also accepts None, in `Annotated`, for a field to which `__post_init__` gives its value."""

# Strict: "3" is no integer and 1 is no boolean, so that a typo is never silently converted.
_STRICT = ConfigDict(strict=True, extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False)

validated = validate_call(config=_STRICT)
"""Decorator for a function or `__init__` whose arguments come from a config."""


@dataclass_transform(kw_only_default=True)
def validated_dataclass(cls: C) -> C:
    """Decorator for a class whose fields are the keys of a config node."""
    return dataclass(config=_STRICT, kw_only=True)(cls)  # type: ignore[return-value]


def explain_validation(error: ValidationError, prefix: str) -> InputError:
    """Return the first complaint as one line that names the key, the value and what is accepted.

    Args:
        prefix: of the key, such as `task`; empty for root keys.
    """
    first: dict[str, Any] = dict(error.errors()[0])
    place, complaints = first["loc"], [first]
    if len(place) > 1 and isinstance(place[-1], str):  # a union: no type of it fits
        place = place[:-1]
        complaints = [dict(other) for other in error.errors() if other["loc"][:-1] == place]
    key = ".".join([prefix, *(str(part) for part in place)]).lstrip(".")
    if first["type"] == "value_error":
        return InputError(str(first["ctx"]["error"]))
    if first["type"].startswith("missing"):
        return InputError(f"{key}: missing; use {key}=VALUE")
    accepted = " or ".join(dict.fromkeys(map(accepted_values, complaints)))
    is_range = any(complaint["type"] in _RANGES for complaint in complaints)
    wrong = "out of range; use" if is_range else "expected"
    return InputError(f"{key}={as_typed(first['input'])}: {wrong} {accepted}")


_RANGES = {
    "greater_than": "a value above {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "a value below {lt}",
    "less_than_equal": "at most {le}",
}
_ACCEPTED = {
    **_RANGES,
    "bool_type": "true or false",
    "too_short": "{min_length} values",
    "too_long": "{max_length} values",
    "string_too_short": "a text that is not empty",
    "string_pattern_mismatch": "a text that matches {pattern}",
}
"""Accepted values in words, by pydantic's type of error."""


def accepted_values(complaint: dict[str, Any]) -> str:
    """Return what would have been accepted in place of a value that pydantic rejects."""
    kind, context = complaint["type"], complaint.get("ctx", {})
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'", context["expected"])
        return expected_one_of(choices, str(complaint["input"])).removeprefix("expected ")
    if kind in _ACCEPTED:
        return _ACCEPTED[kind].format(**context)
    return str(complaint["msg"]).removeprefix("Input should be ")


def as_typed(value: Any) -> str:
    """Write a value as on the command line."""
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)
