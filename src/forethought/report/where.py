"""Filter of the runs of a report: `--where 'objective=next_token and degree>2'`."""

import operator
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

from forethought.errors import InputError
from forethought.report.csv_files import build_record
from forethought.report.groups import Sweep
from forethought.report.names import resolve_name
from forethought.report.wording import format_value, is_number, truncate
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
_MOST_VALUES = 8  # in an error message


def select_runs(sweep: Sweep, where: str) -> list[Results]:
    """Return the runs that match a filter over the columns of `cells.csv`.

    A missing value equals only `null`, and is neither above nor below a number.

    Raises:
        InputError: the filter is invalid, a column is unknown, or no run matches.
    """
    records = [(run, build_record(run, group.label)) for group in sweep.groups for run in group.runs]
    names = dict.fromkeys(name for _, record in records for name in record)
    columns = {name: [record.get(name) for _, record in records] for name in names}
    parser = _Parser(where, columns)
    try:
        matches = parser.parse()
        selected = [run for run, record in records if matches(record)]
    except RecursionError:
        raise InputError(f"--where: nesting too deep; expected {_EXPECTED}") from None
    if not selected:
        values = "; ".join(f"{name} is {_list_values(columns[name])}" for name in dict.fromkeys(parser.named))
        raise InputError(f"--where={where!r}: matches none of {len(records)} runs; {values}")
    return selected


class _Token(NamedTuple):
    text: str
    start: int
    quoted: bool
    """A quoted token is a name or a value, also if its text is a sign or a keyword."""


class _Parser:
    """Recursive-descent parser.

    Grammar: or = and {`or` and}; and = term {`and` term}; term = `not` term | (or) | comparison.
    """

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

    def parse(self) -> _Condition:
        condition = self.parse_or()
        if self.next < len(self.tokens):
            self.fail()
        return condition

    def parse_or(self) -> _Condition:
        parts = [self.parse_and()]
        while self.accept("or"):
            parts.append(self.parse_and())
        return lambda row: any(part(row) for part in parts)

    def parse_and(self) -> _Condition:
        parts = [self.parse_term()]
        while self.accept("and"):
            parts.append(self.parse_term())
        return lambda row: all(part(row) for part in parts)

    def parse_term(self) -> _Condition:
        if self.accept("not"):
            part = self.parse_term()
            return lambda row: not part(row)
        if self.accept("("):
            part = self.parse_or()
            self.expect(")")
            return part
        return self.parse_comparison()

    def parse_comparison(self) -> _Condition:
        word = self.take_word()
        name = resolve_name(word, self.columns, f"--where: {word}", "column")
        self.named.append(name)
        for sign, compare in _ORDER.items():
            if self.accept(sign):
                return self.parse_order(name, sign, compare)
        if self.accept("=") or self.accept("=="):
            return self.match_any(name, [self.take_word()])
        if self.accept("!="):
            equal = self.match_any(name, [self.take_word()])
            return lambda row: not equal(row)
        negated = self.accept("not")
        self.expect("in")
        self.expect("(")
        words = [self.take_word()]
        while self.accept(","):
            words.append(self.take_word())
        self.expect(")")
        matches = self.match_any(name, words)
        return (lambda row: not matches(row)) if negated else matches

    def match_any(self, name: str, words: list[str]) -> _Condition:
        return lambda row: any(_is_equal(row.get(name), word) for word in words)

    def parse_order(self, name: str, sign: str, compare: Callable[[float, float], bool]) -> _Condition:
        word, entries = self.take_word(), self.columns[name]
        limit = _parse_number(word)
        if limit is None or not any(map(is_number, entries)):
            raise InputError(
                f"--where: {name}{sign}{word}: requires numbers on both sides; "
                f"{name} is {_list_values(entries)}"
            )
        return lambda row: is_number(row.get(name)) and compare(row[name], limit)

    def accept(self, text: str) -> bool:
        """Consume the next token if it is this sign or keyword."""
        token = self.tokens[self.next] if self.next < len(self.tokens) else None
        accepted = token is not None and not token.quoted and token.text.lower() == text
        self.next += accepted
        return accepted

    def expect(self, text: str) -> None:
        if not self.accept(text):
            self.fail()

    def take_word(self) -> str:
        token = self.tokens[self.next] if self.next < len(self.tokens) else None
        if token is None or (not token.quoted and token.text.lower() in (*_SIGNS, *_KEYWORDS)):
            self.fail()
        self.next += 1
        return token.text

    def fail(self, at: int | None = None) -> NoReturn:
        """Raise a syntax error at a character of the filter, by default at the next token."""
        if at is None:
            at = self.tokens[self.next].start if self.next < len(self.tokens) else len(self.text)
        rest = self.text[at:].strip()
        problem = f"syntax error at {truncate(rest, 40)!r}" if rest else "incomplete"
        raise InputError(f"--where={self.text!r}: {problem}; expected {_EXPECTED}")


def _is_equal(entry: Any, word: str) -> bool:
    """Compare as numbers if both are numbers (`1e-3` is 0.001), else as text without case."""
    number = _parse_number(word)
    if number is not None and is_number(entry):
        return bool(entry == number)
    return format_value(entry).lower() == word.lower()


def _parse_number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None


def _list_values(entries: Sequence[Any]) -> str:
    """List the values, `2, 3, 5`, or their range if most of many values are numbers."""
    values = {format_value(entry): entry for entry in entries}
    numbers = [entry for entry in values.values() if is_number(entry)]
    if len(values) > _MOST_VALUES and len(numbers) > len(values) / 2:
        return f"{format_value(min(numbers))} to {format_value(max(numbers))}"
    words = [format_value(number) for number in sorted(numbers)]
    words += sorted(values.keys() - map(format_value, numbers))
    omission = ", …" * (len(words) > _MOST_VALUES)
    return ", ".join(truncate(word, 40) for word in words[:_MOST_VALUES]) + omission
