"""Time to solve as censored data: how many runs of each setting solved the task within several budgets."""

from functools import lru_cache

import pandas as pd

from forethought.report.seeds import kaplan_meier
from forethought.report.sweep import Sweep
from forethought.report.wording import format_count

_PARTS = (8, 4, 2, 1)
_ROUNDING = 1 + 1e-9
_COUNTS = ("solved", "runs", "censored", "at_risk")

BUDGET_CAPTION = (
    "Runs that solved the task (validation accuracy) within so many training rows: the longest budget, its "
    "half, quarter and eighth. Censored: unsolved at the end of a smaller budget. budgets.csv also has the "
    "runs at risk and the Kaplan-Meier estimate with its 95 % interval."
)


@lru_cache(maxsize=1)  # the terminal, the page and a file show the same sweep
def count_by_budget(sweep: Sweep) -> pd.DataFrame:
    """Return a row for each setting and budget: the longest one of the sweep, its half, quarter and eighth.

    Columns: `setting`, the swept parameters, and

    * `training_rows`: the budget;
    * `solved` of `runs`: finished runs that solved the task by then;
    * `censored`: runs that ended unsolved before. Whether they would have solved it is unknown;
    * `at_risk`: runs that trained up to the budget, and had not solved the task before;
    * `share`, `low`, `high`: `kaplan_meier` at the budget. Missing if every run ended before, some unsolved.
    """
    runs = sweep.finished[(sweep.finished["samples_seen"] > 0) & (sweep.finished["steps"] > 0)]
    solved_at = runs["samples_seen"] / runs["steps"] * runs["steps_to_solve"]
    runs = runs.assign(end=solved_at.fillna(runs["samples_seen"]), ever=solved_at.notna())
    records = []
    for setting, group in runs.groupby("setting", observed=True):
        steps = kaplan_meier(group["end"], group["ever"])
        for part in _PARTS:
            budget = runs["samples_seen"].max() / part
            within = group["end"] <= budget * _ROUNDING
            at_risk = group["end"] * _ROUNDING >= budget
            estimate = [step for step in steps if step.time <= budget * _ROUNDING][-1]
            known = at_risk.any() or estimate.share == 1
            counts = (
                (within & group["ever"]).sum(),
                len(group),
                (~at_risk & ~group["ever"]).sum(),
                at_risk.sum(),
            )
            records.append(
                [setting, *group.iloc[0][sweep.keys], budget, *counts]
                + (list(estimate[1:4]) if known else [float("nan")] * 3)
            )
    columns = ["setting", *sweep.keys, "training_rows", *_COUNTS, "share", "low", "high"]
    return pd.DataFrame(records, columns=columns)


def tabulate_budgets(counts: pd.DataFrame) -> tuple[list[tuple[str, str]], list[list[str]]]:
    """Return headings and a row of text for each setting. Both are empty if no run was solved."""
    if not counts["solved"].sum():
        return [], []
    budgets = list(counts["training_rows"].drop_duplicates().sort_values())
    texts = [
        f"{solved} of {runs}" + f", {censored} censored" * bool(censored)
        for solved, runs, censored in counts[["solved", "runs", "censored"]].itertuples(index=False)
    ]
    table = counts.assign(text=texts).groupby("setting", observed=True)
    rows = [[str(name), *group.set_index("training_rows")["text"][budgets]] for name, group in table]
    return [(f"{format_count(budget)} rows", "") for budget in budgets], rows
