"""Tables as they stand in JSON files."""

import math

from torch import Tensor


def round_table(table: Tensor | None) -> list[list[float | None]] | None:
    """Return the rows of a matrix with four digits of each number; None for NaN."""
    if table is None:
        return None
    return [[None if math.isnan(x) else float(f"{x:.4g}") for x in row] for row in table.tolist()]
