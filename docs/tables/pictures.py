"""Pictures of results files."""

from forethought.report import build_sweep
from forethought.report.plots import render_plot
from tables.rows import load


def draw_phase_diagram() -> bytes:
    """Return the solve rates of phase_diagram.csv over path length and degree, as a PNG.

    Settings that ran on one graph alone are left out.
    """
    runs = load("phase_diagram")
    setting = ["objective", "task.reverse", "objective.horizon", "objective.window"]
    lengths = runs.groupby(setting, dropna=False)["task.path_length"].transform("nunique")
    images = render_plot("phase_diagram", build_sweep(runs[lengths > 1], x="path_length", y="degree"))
    if isinstance(images, str):
        raise ValueError(f"phase_diagram.csv: {images}")
    return images["png"]
