"""Plots of a report. Each module defines `TITLE`, `CAPTION` and `draw`."""

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
"""Plots in the order of the page. `draw(sweep)` returns a figure, or None if there is nothing to draw."""

FORMATS = ("png", "pdf")


def render_plot(name: str, sweep: Sweep) -> dict[str, bytes]:
    """Return the image of a plot in each format, without global state. Empty if there is nothing to draw."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # A user's matplotlibrc, such as `text.usetex: True`, must not leak in.
        matplotlib.rcParams.update(STYLE)
        figure = PLOTS[name].draw(sweep)
        images = {}
        for kind in FORMATS if figure else ():
            image = io.BytesIO()
            # Omit the date, so that the same results give the same file.
            figure.savefig(image, format=kind, metadata={"CreationDate": None} if kind == "pdf" else {})
            images[kind] = image.getvalue()
            figure.set_layout_engine("none")  # Keep the first layout: computing it takes longer than drawing.
        return images
