"""Compute to solve: the curves of `survival` against the floating-point operations of training."""

from matplotlib.figure import Figure

from forethought.report.plots.survival import draw_curves
from forethought.report.sweep import Sweep

TITLE = "Compute to solve"
CAPTION = (
    "The same against the floating-point operations of training, counted (losses and gradients, without "
    "evaluations). At the same step, objectives can differ several times in what they have spent. A curve "
    "further to the left solves the task with less compute."
)


def draw(sweep: Sweep) -> Figure | str | None:
    runs = sweep.finished
    if runs["training_flops"].isna().all():
        return "no run counted its operations"
    per_row = runs["training_flops"] / runs["samples_seen"]
    if per_row.max() < 1.05 * per_row.min():
        return "all runs spend about as much on a training row: it would be the plot before"
    return draw_curves(sweep, "training_flops", "training FLOPs")
