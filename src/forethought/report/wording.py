"""Text forms of numbers, shared by the tables, the plots and the sentences."""

import re
from collections.abc import Callable, Iterable, Sequence
from numbers import Real
from typing import Any, TypeGuard

from forethought.report.seeds import wilson


def is_number(entry: Any) -> TypeGuard[float]:
    """Return True for numbers except bool and NaN."""
    return isinstance(entry, Real) and not isinstance(entry, bool) and bool(entry == entry)


def is_share(metric: str) -> bool:
    """Return True for metrics between 0 and 1, which are given in per cent."""
    return bool(re.search("accuracy|error_|chance|given_|follows_|reward|distinct|solve_rate", metric))


def format_share(share: float) -> str:
    """Format a share in per cent, with a decimal near 0 and 100: 99.6 is not 100."""
    percent = 100 * share
    return f"{percent:.0f}" if 1 <= percent < 99 else f"{percent:.1f}".removesuffix(".0")


def format_range(shares: Iterable[float]) -> str:
    """Format the smallest and the largest share in per cent: `50–70`. Missing shares are ignored."""
    known = [share for share in shares if is_number(share)]
    if not known:
        return "–"
    low, high = format_share(min(known)), format_share(max(known))
    return low if low == high else f"{low}–{high}"


def format_odds(chance: float) -> str:
    """Format a chance as `1/n` if n is an integer up to 100, else in per cent."""
    inverse = round(1 / chance) if chance > 0 else 0
    exact = 1 < inverse <= 100 and abs(chance * inverse - 1) < 1e-6
    return f"1/{inverse}" if exact else f"{format_share(chance)} %"


def format_count(count: float) -> str:
    return f"{count:,.0f}" if is_number(count) else "–"


def format_number(number: float) -> str:
    """Format a measured number with three significant digits."""
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"


def format_flops(flops: float) -> str:
    """Format a number of floating-point operations: `1.2e12`."""
    return f"{flops:.1e}".replace("e+", "e") if is_number(flops) else "–"


def format_quartiles(quartiles: Sequence[float], format: Callable[[float], str]) -> str:
    """Format median and quartiles, `1,750 (1,500–2,250)`, or one number if the quartiles are equal."""
    if not all(map(is_number, quartiles)):
        return "–"
    low, middle, high = map(format, quartiles)
    return middle if low == high else f"{middle} ({low}–{high})"


def format_p_value(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def format_interval(successes: int, n: int) -> str:
    """Format the Wilson interval in per cent."""
    if n == 0:
        return "–"
    low, high = wilson(successes, n)
    return f"{100 * low:.0f}–{100 * high:.0f}"


def truncate(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def count_noun(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def wrap_name(name: str, width: int) -> list[str]:
    """Wrap a label at spaces, and only words longer than `width` also after `_`, `.`, `/` and `=`."""
    lines = [""]
    for word in name.split():
        parts = [word] if len(word) <= width else re.findall(r"[^_./=]+[_./=]*|[_./=]+", word)
        for number, part in enumerate(parts):
            space = " " if lines[-1] and not number else ""
            if lines[-1] and len(lines[-1] + space + part) > width:
                lines.append(part)
            else:
                lines[-1] += space + part
    return lines
