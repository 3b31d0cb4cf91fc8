"""The plots: one file for each, with a title, a caption that says how to read it, and `draw`."""

from __future__ import annotations

import io
from types import ModuleType

import matplotlib

from forethought.report.groups import Sweep
from forethought.report.plots import (
    accuracy,
    clever_hans,
    errors,
    example,
    grad_flow,
    heat_map,
    learning,
    solve_rate,
    strata,
)
from forethought.report.plots.style import STYLE

PLOTS: dict[str, ModuleType] = {
    module.__name__.rsplit(".", 1)[1]: module
    for module in (heat_map, clever_hans, example, solve_rate, accuracy, errors, strata, grad_flow, learning)
}
"""In the order of the page. `draw(sweep)` returns a figure, or None if there is nothing to draw."""


def render(name: str, sweep: Sweep) -> bytes | None:
    """A plot as a PNG, with the house style and no global state."""
    with matplotlib.rc_context(STYLE):
        figure = PLOTS[name].draw(sweep)
        if figure is None:
            return None
        image = io.BytesIO()
        figure.savefig(image, format="png")
        return image.getvalue()
