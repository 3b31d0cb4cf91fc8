"""`--where 'objective=next_token and degree>2'`: which runs a report is about."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

from forethought.errors import InputError
from forethought.report.cells import records
from forethought.report.groups import Sweep
from forethought.report.names import full_name
from forethought.report.wording import shorten, value
from forethought.results import Results

_Condition = Callable[[dict[str, Any]], bool]

_ORDER = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_SIGNS = ("<=", ">=", "!=", "==", "=", "<", ">", "(", ")", ",")
_TOKEN = re.compile(
    rf"""\s*(?:(?P<sign>{"|".join(map(re.escape, _SIGNS))})|"(?P<double>[^"]*)"|'(?P<single>[^']*)'"""
    r"""|(?P<word>[^\s()=!<>,"']+))"""
)
_KEYWORDS = ("and", "or", "not", "in")
_EXPECTED = "COLUMN = VALUE (or !=, <, <=, >, >=, in (VALUE, …)), joined by and, or, not and parentheses"
_MOST_VALUES = 8  # said of a column


def select(sweep: Sweep, where: str) -> list[Results]:
    """The runs for which a filter over the columns of `cells.csv` holds.

    `null` is what is not there: it equals only itself, and is neither above nor below a number.

    Raises:
        InputError: no such filter, no such column, or no run for which it holds.
    """
    rows = records(sweep)
    names = dict.fromkeys(name for _, row in rows for name in row)
    columns = {name: [row.get(name) for _, row in rows] for name in names}
    parser = _Parser(where, columns)
    try:
        holds = parser.whole()
        found = [run for run, row in rows if holds(row)]
    except RecursionError:
        raise InputError(f"--where: nested too deeply; expected {_EXPECTED}") from None
    if not found:
        there = "; ".join(f"{name} is {_values(columns[name])}" for name in dict.fromkeys(parser.named))
        raise InputError(f"--where {where!r}: holds for none of {len(rows)} runs; {there}")
    return found


class _Token(NamedTuple):
    text: str
    start: int
    quoted: bool
    """Then it is a name or a value, whatever it says."""


class _Parser:
    """either: both {or both}; both: term {and term}; term: not term | (either) | comparison."""

    def __init__(self, text: str, columns: dict[str, list[Any]]) -> None:
        self.text, self.columns = text, columns
        self.named: list[str] = []
        self.tokens: list[_Token] = []
        self.next = at = 0
        while text[at:].strip():
            match = _TOKEN.match(text, at)
            if match is None:
                self.fail(at)
            kind = match.lastgroup or ""
            self.tokens.append(_Token(match[kind], match.start(kind), kind in ("single", "double")))
            at = match.end()

    def whole(self) -> _Condition:
        condition = self.either()
        if self.next < len(self.tokens):
            self.fail()
        return condition

    def either(self) -> _Condition:
        parts = [self.both()]
        while self.accept("or"):
            parts.append(self.both())
        return lambda row: any(part(row) for part in parts)

    def both(self) -> _Condition:
        parts = [self.term()]
        while self.accept("and"):
            parts.append(self.term())
        return lambda row: all(part(row) for part in parts)

    def term(self) -> _Condition:
        if self.accept("not"):
            part = self.term()
            return lambda row: not part(row)
        if self.accept("("):
            part = self.either()
            self.expect(")")
            return part
        return self.comparison()

    def comparison(self) -> _Condition:
        name = full_name(self.word(), self.columns, "--where", "column")
        self.named.append(name)
        for sign, compare in _ORDER.items():
            if self.accept(sign):
                return self.ordered(name, sign, compare)
        if self.accept("=") or self.accept("=="):
            return self.among(name, [self.word()])
        if self.accept("!="):
            other = self.among(name, [self.word()])
            return lambda row: not other(row)
        negated = self.accept("not")
        self.expect("in")
        self.expect("(")
        words = [self.word()]
        while self.accept(","):
            words.append(self.word())
        self.expect(")")
        among = self.among(name, words)
        return (lambda row: not among(row)) if negated else among

    def among(self, name: str, words: list[str]) -> _Condition:
        return lambda row: any(_equal(row.get(name), word) for word in words)

    def ordered(self, name: str, sign: str, compare: Callable[[float, float], bool]) -> _Condition:
        word, entries = self.word(), self.columns[name]
        limit = _number(word)
        if limit is None or not any(map(_is_number, entries)):
            raise InputError(
                f"--where: {name}{sign}{word}: expected numbers on both sides; {name} is {_values(entries)}"
            )
        return lambda row: _is_number(row.get(name)) and compare(row[name], limit)

    def accept(self, text: str) -> bool:
        """Step over this sign or keyword, if it comes next."""
        token = self.tokens[self.next] if self.next < len(self.tokens) else None
        here = token is not None and not token.quoted and token.text.lower() == text
        self.next += here
        return here

    def expect(self, text: str) -> None:
        if not self.accept(text):
            self.fail()

    def word(self) -> str:
        token = self.tokens[self.next] if self.next < len(self.tokens) else None
        if token is None or (not token.quoted and token.text.lower() in (*_SIGNS, *_KEYWORDS)):
            self.fail()
        self.next += 1
        return token.text

    def fail(self, at: int | None = None) -> NoReturn:
        """At the next token, unless told where."""
        if at is None:
            at = self.tokens[self.next].start if self.next < len(self.tokens) else len(self.text)
        rest = self.text[at:].strip()
        problem = f"cannot be read from {shorten(rest, 40)!r} on" if rest else "ends too early"
        raise InputError(f"--where {self.text!r}: {problem}; expected {_EXPECTED}")


def _equal(entry: Any, word: str) -> bool:
    """As numbers where both are (`1e-3` is 0.001), otherwise as written, in any case."""
    number = _number(word)
    if number is not None and _is_number(entry):
        return bool(entry == number)
    return value(entry).lower() == word.lower()


def _is_number(entry: Any) -> bool:
    return isinstance(entry, int | float) and not isinstance(entry, bool)


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None


def _values(entries: Sequence[Any]) -> str:
    """`2, 3 or 5`; of many numbers the range."""
    found = {value(entry): entry for entry in entries}
    numbers = [entry for entry in found.values() if _is_number(entry)]
    if len(found) > _MOST_VALUES and len(numbers) > len(found) / 2:
        return f"{value(min(numbers))} to {value(max(numbers))}"
    words = [value(number) for number in sorted(numbers)] + sorted(found.keys() - map(value, numbers))
    return ", ".join(shorten(word, 40) for word in words[:_MOST_VALUES]) + ", …" * (len(words) > _MOST_VALUES)
