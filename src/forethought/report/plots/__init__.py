"""Plots of a report. Each module defines `TITLE`, `CAPTION` and `draw`."""

import io
import warnings
from types import ModuleType

import matplotlib

from forethought.report.plots import (
    accuracy,
    attention,
    clever_hans,
    compute,
    errors,
    example,
    grad_flow,
    gradient_split,
    learning,
    phase_diagram,
    probes,
    published,
    solve_rate,
    strata,
    survival,
    trend,
)
from forethought.report.plots.style import STYLE
from forethought.report.sweep import Sweep

PLOTS: dict[str, ModuleType] = {
    module.__name__.rsplit(".", 1)[1]: module
    for module in (
        phase_diagram,
        solve_rate,
        published,
        accuracy,
        trend,
        survival,
        compute,
        clever_hans,
        example,
        learning,
        errors,
        strata,
        grad_flow,
        gradient_split,
        attention,
        probes,
    )
}
"""Plots in the order of the page. `draw(sweep)` returns a figure, a sentence that says why a figure would
say nothing, or None if the plot is not meant for such a sweep."""

FORMATS = ("png", "pdf")


def render_plot(name: str, sweep: Sweep) -> dict[str, bytes] | str:
    """Return the image in each format, or the reason why there is none; empty if the plot does not apply."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        # A label may hold any character; the font has no glyph for some.
        warnings.filterwarnings("ignore", "Glyph .* missing")
        matplotlib.rcdefaults()  # A user's matplotlibrc, such as `text.usetex: True`, must not leak in.
        matplotlib.rcParams.update(STYLE)
        figure = PLOTS[name].draw(sweep)
        if isinstance(figure, str):
            return figure
        images = {}
        for kind in FORMATS if figure else ():
            image = io.BytesIO()
            # Omit the date, so that the same results give the same file.
            figure.savefig(image, format=kind, metadata={"CreationDate": None} if kind == "pdf" else {})
            images[kind] = image.getvalue()
        return images
