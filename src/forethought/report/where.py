"""Filter of the runs of a report: `--where 'objective=next_token and degree>2'`."""

import re
from collections.abc import Iterator
from typing import Any

import pandas as pd

from forethought.errors import InputError
from forethought.report.names import resolve_name
from forethought.report.wording import is_number, truncate
from forethought.results.columns import OBJECTS
from forethought.results.frame import format_value

_ORDER = ("<=", ">=", "<", ">")
_SIGNS = (*_ORDER, "!=", "==", "=", "(", ")", ",")
_TOKEN = re.compile(
    rf"""\s*(?:(?P<sign>{"|".join(map(re.escape, _SIGNS))})|"(?P<double>[^"]*)"|'(?P<single>[^']*)'"""
    r"""|(?P<word>[^\s()=!<>,"']+))"""
)
_GRAMMAR: dict[str, dict[str, str]] = {
    "column": {"not": "column", "(": "column", "word": "operator"},
    "operator": {**dict.fromkeys((*_ORDER, "!=", "==", "="), "value"), "not": "in", "in": "list"},
    "value": {"word": "joint"},
    "in": {"in": "list"},
    "list": {"(": "item"},
    "item": {"word": "comma"},
    "comma": {",": "item", ")": "joint"},
    "joint": {"and": "column", "or": "column", ")": "joint"},
}
"""For each expected part of a filter, the accepted tokens and the part that follows each of them."""
_EXPECTED = "COLUMN = VALUE (or !=, <, <=, >, >=, in (VALUE, …)), joined by and, or, not and parentheses"
_MOST_VALUES = 8  # in an error message


def select_runs(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    """Return the runs that match a filter over the columns of `cells.csv`.

    A missing value equals only `null`, and is neither above nor below a number.

    Raises:
        InputError: the filter is invalid, a column is unknown, or no run matches.
    """
    query = _Query(frame)
    expression = query.translate(where)
    try:
        matches = query.operands.query(expression, engine="python", local_dict=query.values).index
    except (MemoryError, RecursionError, SyntaxError):  # of Python's parser
        raise _build_error(where, "nesting too deep") from None
    if matches.empty:
        values = "; ".join(f"{name} is {_list_values(frame[name])}" for name in query.names)
        raise InputError(f"--where={where!r}: matches none of {len(frame)} runs; {values}")
    return frame.loc[matches]


class _Query:
    """Translation of a filter for `DataFrame.query`.

    The expression holds names of columns in backticks and names of Python values (`@v0`). The text of the
    user never enters it, so no code in a filter is evaluated.
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        self.frame, self.operands = frame, pd.DataFrame(index=frame.index)
        self.columns = [name for name in frame if name not in OBJECTS and "`" not in name]
        self.names: dict[str, None] = {}
        self.values: dict[str, Any] = {}

    def translate(self, where: str) -> str:
        expression: list[str] = []
        comparison: list[tuple[str, str]] = []
        part, depth = "column", 0
        for kind, text, start in _split_tokens(where):
            if kind not in _GRAMMAR[part] or (part == "joint" and kind == ")" and not depth):
                raise _build_error(where, f"syntax error at {truncate(where[start:].strip(), 40)!r}")
            if part == "joint" or (part == "column" and kind != "word"):
                depth += (kind == "(") - (kind == ")")
                expression.append(kind)
            else:
                comparison.append((kind, self.resolve(text) if part == "column" else text))
            part = _GRAMMAR[part][kind]
            if part == "joint" and comparison:
                expression.append(self.translate_comparison(comparison))
                comparison = []
        if part != "joint" or depth:
            raise _build_error(where, "incomplete")
        return " ".join(expression)

    def resolve(self, word: str) -> str:
        name = resolve_name(word, self.columns, f"--where: {word}", "column")
        self.names[name] = None
        return name

    def translate_comparison(self, tokens: list[tuple[str, str]]) -> str:
        name, *words = [text for kind, text in tokens if kind == "word"]
        operator = " ".join(kind for kind, _ in tokens if kind not in ("word", "(", ")", ","))
        entries, value = self.frame[name].astype(object), f"v{len(self.values)}"
        limits = [number for number in map(_parse_number, words) if number is not None]
        if operator not in _ORDER:
            # Compare as numbers if both are numbers (`1e-3` is 0.001), else as text without case.
            self.operands[name] = entries.map(lambda x: x if is_number(x) else format_value(x).lower())
            self.values[value] = [*map(str.lower, words), *limits]
            return f"(`{name}` {'not in' if operator in ('!=', 'not in') else 'in'} @{value})"
        numbers = entries.where(entries.map(is_number)).astype(float)
        if not limits or numbers.isna().all():
            raise InputError(
                f"--where: {name}{operator}{words[0]}: requires numbers on both sides; "
                f"{name} is {_list_values(entries)}"
            )
        self.operands[f"{name} number"], self.values[value] = numbers, limits[0]
        return f"(`{name} number` {operator} @{value})"


def _split_tokens(where: str) -> Iterator[tuple[str, str, int]]:
    """Yield the kind of each token (a sign, a keyword or `word`), its text and its start."""
    at = 0
    while where[at:].strip():
        match = _TOKEN.match(where, at)
        if match is None:
            raise _build_error(where, f"syntax error at {truncate(where[at:].strip(), 40)!r}")
        group = match.lastgroup or ""
        text, at = match[group], match.end()
        # A quoted token is a name or a value, also if its text is a keyword.
        reserved = group == "sign" or (group == "word" and text.lower() in ("and", "or", "not", "in"))
        yield text.lower() if reserved else "word", text, match.start()


def _build_error(where: str, problem: str) -> InputError:
    return InputError(f"--where={where!r}: {problem}; expected {_EXPECTED}")


def _parse_number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None


def _list_values(entries: pd.Series) -> str:
    """List the values, `2, 3, 5`, or their range if most of many values are numbers."""
    numbers = sorted(x for x in entries.drop_duplicates() if is_number(x))
    words = sorted({*entries.map(format_value)} - {*map(format_value, numbers)})
    if len(numbers) > max(_MOST_VALUES - len(words), len(words)):
        return f"{format_value(numbers[0])} to {format_value(numbers[-1])}"
    words = [*map(format_value, numbers), *words]
    return ", ".join(truncate(w, 40) for w in words[:_MOST_VALUES]) + ", …" * (len(words) > _MOST_VALUES)
