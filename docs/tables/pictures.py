"""Pictures of results files."""

from forethought.report import build_sweep
from forethought.report.plots import render_plot
from tables.rows import load


def draw_phase_diagram() -> bytes:
    """Return the solve rates of phase_diagram.csv over path length and degree, as a PNG."""
    images = render_plot("phase_diagram", build_sweep(load("phase_diagram"), x="path_length", y="degree"))
    if isinstance(images, str):
        raise ValueError(f"phase_diagram.csv: {images}")
    return images["png"]
