"""Accuracy against chance, with a mark for each run, where no parameter is an axis."""

import pandas as pd
from matplotlib.figure import Figure

from forethought.report.plots.grouping import pool_settings
from forethought.report.plots.layout import Key, create_rows
from forethought.report.plots.style import INK, VERDICTS
from forethought.report.sweep import Sweep

TITLE = "Accuracy against chance"
CAPTION = (
    "Each mark is one run: the share of answers that are right when the model reads its own tokens. The "
    "black bar is chance: the accuracy of the best policy that cannot plan. Colour and shape give the "
    "verdict."
)


def draw(sweep: Sweep) -> Figure | str | None:
    if sweep.axes.x is not None:
        return None
    if "test/accuracy" not in sweep.finished or sweep.finished["test/accuracy"].isna().all():
        return "no finished run has an accuracy"
    if len(sweep.finished) < 2:
        return "there are no two finished runs to compare"
    runs = sweep.finished.dropna(subset="test/accuracy")
    runs = runs.assign(verdict=runs["verdict"].fillna("no verdict"))
    chance = {"marker": "|", "color": INK, "markersize": 9, "markeredgewidth": 2, "linestyle": ""}
    dot = {"markersize": 6, "markeredgecolor": "white", "markeredgewidth": 0.6, "linestyle": ""}
    key = Key(
        [("chance", chance)]
        + [
            (verdict, {"color": colour, "marker": marker, **dot})
            for verdict, (colour, marker) in VERDICTS.items()
            if (runs["verdict"] == verdict).any()
        ]
    )
    rows, _, note = pool_settings(sweep, runs)
    figure, axes, middles = create_rows(
        [row.title for row in rows], f"right answers{note}", [0.34] * len(rows), key
    )
    for row, middle in zip(rows, middles, strict=True):
        for level in row.runs.get("test/chance", pd.Series(dtype=float)).dropna().unique():
            axes.plot(level, middle, zorder=2, clip_on=False, **chance | {"markersize": 20})
        for rank, (accuracy, verdict) in enumerate(
            zip(row.runs["test/accuracy"], row.runs["verdict"], strict=True)
        ):
            colour, marker = VERDICTS[verdict]
            # Jitter by the golden ratio: evenly spread and reproducible.
            y = middle + ((rank * 0.618 + 0.5) % 1 - 0.5) * 0.24
            axes.plot(accuracy, y, marker=marker, color=colour, alpha=0.9, zorder=3, clip_on=False, **dot)
    return figure
