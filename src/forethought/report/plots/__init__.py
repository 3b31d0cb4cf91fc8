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
    trend,
)
from forethought.report.plots.style import STYLE

PLOTS: dict[str, ModuleType] = {
    module.__name__.rsplit(".", 1)[1]: module
    for module in (
        trend,
        heat_map,
        clever_hans,
        example,
        solve_rate,
        accuracy,
        errors,
        strata,
        grad_flow,
        learning,
    )
}
"""In the order of the page. `draw(sweep)` returns a figure, or None if there is nothing to draw."""


FORMATS = ("png", "pdf")


def render(name: str, sweep: Sweep) -> dict[str, bytes]:
    """A plot by format, with the house style and no global state; empty if there is nothing to draw."""
    with matplotlib.rc_context(STYLE):
        figure = PLOTS[name].draw(sweep)
        images = {}
        for kind in FORMATS if figure else ():
            image = io.BytesIO()
            # Without a date the same results give the same file.
            figure.savefig(image, format=kind, metadata={"CreationDate": None} if kind == "pdf" else {})
            images[kind] = image.getvalue()
            figure.set_layout_engine("none")  # once is enough: it takes longer than drawing
        return images
