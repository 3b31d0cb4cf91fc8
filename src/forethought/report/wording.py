"""Text forms of values, shared by the tables, the plots and the sentences."""

from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

from forethought.report.seeds import Quartiles, wilson


def is_number(entry: Any) -> bool:
    """Return True for numbers except bool and NaN."""
    return isinstance(entry, Real) and not isinstance(entry, bool) and entry == entry


def format_share(share: float) -> str:
    """Format a share in per cent, with a decimal near 0 and 100: 99.6 is not 100."""
    percent = 100 * share
    return f"{percent:.0f}" if 1 <= percent < 99 else f"{percent:.1f}".removesuffix(".0")


def format_range(shares: Sequence[float]) -> str:
    """Format the smallest and the largest share in per cent: `50–70`."""
    if not shares:
        return "–"
    low, high = format_share(min(shares)), format_share(max(shares))
    return low if low == high else f"{low}–{high}"


def format_odds(chance: float) -> str:
    """Format a chance as `1/n` if n is an integer up to 100, else in per cent."""
    inverse = round(1 / chance) if chance > 0 else 0
    exact = 1 < inverse <= 100 and abs(chance * inverse - 1) < 1e-6
    return f"1/{inverse}" if exact else f"{format_share(chance)} %"


def format_count(count: int | float | None) -> str:
    return "–" if count is None else f"{count:,.0f}"


def format_number(number: float) -> str:
    """Format a measured number with three significant digits."""
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"


def format_quartiles(summary: Quartiles | None, format: Callable[[float], str]) -> str:
    """Format median and quartiles, `1,750 (1,500–2,250)`, or one number if the quartiles are equal."""
    if summary is None:
        return "–"
    low, middle, high = map(format, summary)
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
