"""Runs that were still learning when their budget ended: `still moving`."""

import math

import pandas as pd

_GOALS = ("val/relative_creativity", "val/accuracy")
"""The metric that solves the task (`Task.goal`): the first one that a run has."""
_ERRORS = 2.0


def find_still_moving(runs: pd.DataFrame, curves: pd.DataFrame) -> pd.Series:
    """Return whether each run was still moving; missing for runs that are solved, unfinished or lack a curve.

    A run is still moving if the mean of the last tenth of its evaluations, at least two, is above the mean
    of as many evaluations before by more than two standard errors. The error is that of the difference of
    two samples of `evaluation.validation_samples` rows. All evaluations read the same rows, so averaging
    them does not count as more rows. (A relative creativity is treated as a share of right answers.)

    Args:
        runs: the DataFrame of `load_sweep`.
        curves: of these runs (`load_curves`).
    """
    unsolved = runs[(runs["status"] == "finished") & (runs["verdict"] != "solved")]
    rows = unsolved.get("evaluation.validation_samples", pd.Series(dtype=float))
    goals = [goal for goal in _GOALS if goal in curves]
    values = curves[goals].bfill(axis=1).iloc[:, 0] if goals else pd.Series(dtype=float)
    evaluations = {
        folder: list(shares) for folder, shares in values.dropna().groupby(curves["folder"], sort=False)
    }
    known = {
        number: is_rising(evaluations[folder], float(rows[number]))
        for number, folder in unsolved["folder"].items()
        if folder in evaluations and rows.get(number, 0) > 0
    }
    return pd.Series(known, index=runs.index, dtype=object)


def is_rising(shares: list[float], rows: float) -> bool | None:
    """Return whether the last tenth of the evaluations is above the tenth before; None with less than four.

    Args:
        shares: a share of right answers for each evaluation, in order.
        rows: of each evaluation.
    """
    tenth = max(2, len(shares) // 10)
    if len(shares) < 2 * tenth:
        return None
    last, before = sum(shares[-tenth:]) / tenth, sum(shares[-2 * tenth : -tenth]) / tenth
    mean = min(1.0, max(0.0, (last + before) / 2))
    return last - before > _ERRORS * math.sqrt(2 * mean * (1 - mean) / rows)
