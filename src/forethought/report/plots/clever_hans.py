"""Accuracy at each answer position, teacher-forced and free-running: the Clever Hans picture."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from forethought.report.objectives import BASELINE
from forethought.report.plots.grouping import Panel, count_solved, split_panels, strip_prefix
from forethought.report.plots.layout import Key, create_panels, draw_chance, draw_seeds, set_percent
from forethought.report.plots.style import BLUE, INK, VERMILLION
from forethought.report.sweep import Sweep
from forethought.report.wording import format_odds

TITLE = "Accuracy by answer position"
CAPTION = (
    "Accuracy at each position of the answer, median over seeds; small dots are seeds. High bars over a "
    "low line are the Clever Hans shortcut: the model looks up each next token from the true previous "
    "tokens, and guesses the one that needs a plan (dark bar). The dashed line is chance. Objectives "
    "that do not read the answer have no bars."
)

_MOST = 12
_LOCAL = "#F2BE9C"  # a light VERMILLION


_KEY = Key(
    [
        ("teacher-forced: reads the true previous tokens", {"facecolor": _LOCAL}),
        ("its decision", {"facecolor": VERMILLION}),
        ("free-running: reads its own tokens", {"color": BLUE, "marker": "o"}),
    ]
)


def draw(sweep: Sweep) -> Figure | str | None:
    runs = sweep.finished
    runs = runs[_select_accuracies(runs, "token").notna().any(axis=1)]
    if runs.empty:
        return "no finished run has an accuracy for each position"
    panels, note = _select_panels(sweep, runs)
    figure, grid = create_panels(
        [panel.title for panel in panels],
        "position in the answer" + note,
        "right tokens",
        height=1.3,
        key=_KEY,
        notes=["{} of {} solved".format(*count_solved(panel.runs)) for panel in panels],
        foot=0.34,
    )
    set_percent(grid[0])
    grid[0].set_ylim(top=1.33 if any(map(_takes_shortcut, panels)) else 1.08)  # Room for the explanation.
    longest = _select_accuracies(pd.concat([panel.runs for panel in panels]), "token").columns.max()
    decisions = {position for panel in panels for position in panel.runs["decision_positions"].iloc[0][:1]}
    grid[0].set_xticks(range(1, longest + 1, 1 + longest // 8))
    grid[0].set_xticks([*decisions], labels=["decision"] * len(decisions), minor=True)
    grid[0].set_xlim(0.4, longest + 0.6)
    explained = next((panel for panel in panels if _takes_shortcut(panel)), None)
    for panel, axes in zip(panels, grid, strict=True):
        axes.xaxis.remove_overlapping_locs = False
        axes.tick_params(which="minor", length=0, pad=14, labelsize=8.5)
        axes.tick_params(which="minor", labelbottom=axes.xaxis.get_tick_params()["labelbottom"])
        _draw_positions(axes, panel.runs, decisions)
        if panel is explained:
            _explain(axes, panel.runs)
    return figure


def _select_accuracies(runs: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Return the accuracy of each run (row) at each position (column)."""
    table = strip_prefix(runs, f"test/{kind}_accuracy_")
    return table.rename(columns=int).sort_index(axis=1)


def _select_panels(sweep: Sweep, runs: pd.DataFrame) -> tuple[list[Panel], str]:
    """Return the settings and a note. Of many, the best of each objective where they differ most."""
    panels = split_panels(sweep, runs)
    if len(panels) <= _MOST:
        return panels, ""
    options = [key for key in sweep.keys if key.split(".")[0] == "objective"]
    conditions = split_panels(sweep, runs, options)
    # Of equally clear conditions, the last is the hardest.
    condition = max(reversed(conditions), key=_contrast)
    inside = [panel for panel in panels if panel.runs["setting"].iloc[0] in {*condition.runs["setting"]}]
    best: dict[str, Panel] = {}
    for panel in inside:
        objective = panel.runs["objective"].iloc[0]
        best[objective] = max(best.get(objective, panel), panel, key=_reached)
    chosen = list(best.values())[:_MOST]
    where = f", on {condition.title}" if condition.title else ""
    return (
        chosen,
        f"\nthe best setting of {len(chosen)} of {len(sweep.levels('objective'))} objectives{where}",
    )


def _reached(panel: Panel) -> tuple[float, float]:
    return float((panel.runs["verdict"] == "solved").mean()), float(panel.runs["test/accuracy"].median())


def _contrast(condition: Panel) -> float:
    """Return the share of baseline runs on the shortcut, plus the best solve rate of another setting."""
    baseline = condition.runs["objective"] == BASELINE
    shortcut = (condition.runs.loc[baseline, "verdict"] == "shortcut").mean()
    others = condition.runs[~baseline]
    solved = (others["verdict"] == "solved").groupby(others["setting"], observed=True).mean().max()
    return float(pd.Series([shortcut, solved]).sum())  # NaN, without such runs, counts as 0.


def _draw_positions(axes: Any, runs: pd.DataFrame, decisions: set[int]) -> None:
    forced, free = (_select_accuracies(runs, kind) for kind in ("forced_token", "token"))
    for position, values in forced.items():
        colour = VERMILLION if position in decisions else _LOCAL
        axes.bar(position, values.median(), 0.72, color=colour, zorder=2)
        axes.plot([position] * len(values), values, "o", color=INK, markersize=1.6, alpha=0.6, zorder=3)
    draw_seeds(axes, ((free.columns, line) for _, line in free.iterrows()), BLUE)
    axes.plot(free.columns, free.median(), color=BLUE, linewidth=2, marker="o", markersize=5, zorder=4)
    draw_chance(axes, runs.get("test/decision_chance", pd.Series(dtype=float)).dropna())


def _takes_shortcut(panel: Panel) -> bool:
    """Return True for the baseline if most of its runs look up each token but the decision."""
    runs = panel.runs
    return bool((runs["objective"] == BASELINE).all() and (runs["verdict"] == "shortcut").mean() > 0.5)


def _explain(axes: Any, runs: pd.DataFrame) -> None:
    """Name the guess in the panel of the baseline, above its bars."""
    decision = next(iter(runs["decision_positions"].iloc[0]), None)
    forced = _select_accuracies(runs, "forced_token")
    if decision is not None and decision in forced and "test/decision_chance" in runs:
        chance = runs["test/decision_chance"].median()
        axes.annotate(
            f"guess: {format_odds(chance)}",
            (decision, forced[decision].median() + 0.02),
            (decision - 0.3, 1.13),
            fontsize=8.5,
            va="bottom",
            arrowprops={"arrowstyle": "-|>", "color": INK, "linewidth": 1, "shrinkB": 1, "relpos": (0.1, 0)},
        )
