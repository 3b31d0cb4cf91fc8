"""How values are written, alike in the tables, the plots and the sentences."""

from collections.abc import Sequence
from typing import Any

from forethought.report.seeds import Quartiles, wilson


def value(x: Any) -> str:
    """A config value as one would type it on the command line."""
    if isinstance(x, bool):
        return str(x).lower()
    if x is None:
        return "null"
    if isinstance(x, list | tuple):
        return f"[{','.join(map(value, x))}]"
    return str(x)


def share(x: float) -> str:
    """A share of rows in per cent, with a decimal near the ends: 99.6 is not 100."""
    percent = 100 * x
    return f"{percent:.0f}" if 1 <= percent < 99 else f"{percent:.1f}".removesuffix(".0")


def spread(values: Sequence[float]) -> str:
    """Smallest to largest over seeds, in per cent."""
    if not values:
        return "–"
    low, high = share(min(values)), share(max(values))
    return low if low == high else f"{low}–{high}"


def odds(chance: float) -> str:
    """Chance as people think of it: `1/5`, or per cent where it is no such fraction."""
    inverse = round(1 / chance) if chance > 0 else 0
    return f"1/{inverse}" if 1 < inverse <= 100 and abs(chance * inverse - 1) < 1e-6 else f"{share(chance)} %"


def steps(count: int | float | None) -> str:
    return "–" if count is None else f"{count:,.0f}"


def quartile_steps(found: Quartiles | None) -> str:
    """`1,750 (1,500–2,250)`: median and quartiles; one number where they agree."""
    if found is None:
        return "–"
    middle, low, high = steps(found.median), steps(found.low), steps(found.high)
    return middle if low == high else f"{middle} ({low}–{high})"


def number(x: float) -> str:
    """Any measured number, to three digits."""
    return f"{x:,.0f}" if abs(x) >= 100 else f"{x:.3g}"


def p_value(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def interval(successes: int, n: int) -> str:
    if n == 0:
        return "–"
    low, high = wilson(successes, n)
    return f"{100 * low:.0f}–{100 * high:.0f}"


def shorten(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
