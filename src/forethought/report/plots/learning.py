"""Learning curves: validation accuracy of whole answers and of the decision token."""


import pandas as pd
from matplotlib.figure import Figure

from forethought.report.plots.panels import (
    arrange_lines,
    create_panels,
    split_panels,
)
from forethought.report.sweep import Sweep

TITLE = "Learning curves"
CAPTION = (
    "Validation accuracy during training; the dashed line is chance. A plateau at chance that ends in a jump "
    "means that the model has found a plan. Thin lines are seeds, thick lines their median; a dot is the end "
    "of a run. With few settings: whole answers (blue) and the decision token (orange). With many: whole "
    "answers, with a line for each objective."
)

_ANSWER, _DECISION = "val/accuracy", "val/decision_accuracy"
_MOST_DETAILED = 8


def draw(sweep: Sweep) -> Figure | str | None:
    curves = sweep.curves
    if _ANSWER not in curves or curves[_ANSWER].isna().all():
        return "metrics.csv of the runs has no validation accuracy"
    runs = sweep.runs[sweep.runs["cell"].isin(curves.loc[curves[_ANSWER].notna(), "cell"])]
    if runs["setting"].nunique() <= _MOST_DETAILED:
        return _draw_settings(sweep, runs)
    layout = arrange_lines(sweep, runs, [])
    figure, grid = create_panels(
        layout.titles, "training steps" + layout.note, "right answers",
        height=0.8, head=layout.key.height, columns=layout.columns,
    )
    layout.key.draw(figure)
    for panel, axes in zip(layout.panels, grid, strict=True):
        for look, line in panel.lines:
            _draw_curves(axes, curves[curves["cell"].isin(line["cell"])], _ANSWER, look.color, 1.8, look.linestyle)
        _draw_chances(axes, pd.concat([line for _, line in panel.lines]))
    _format_axes(grid[0])
    return figure


def _draw_settings(sweep: Sweep, runs: pd.DataFrame) -> Figure:
    panels = split_panels(sweep, runs, [])
