"""Summary of runs over seeds: one row for each group."""

from collections.abc import Sequence
from typing import get_args

import pandas as pd

from forethought.report.regime import describe_regime
from forethought.report.seeds import wilson
from forethought.report.settings import list_metric_columns
from forethought.results import MEASURES, TO_SOLVE, Verdict

_QUANTILES = {0.0: "min", 0.25: "q1", 0.5: "median", 0.75: "q3", 1.0: "max"}
VERDICT_COUNTS = (*get_args(Verdict), "no_verdict")


def summarise_runs(frame: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Return a row for each group of runs that agree in the columns `by`, in the order of the frame.

    Columns: `by`; the counts `runs finished`, one for each verdict and, with curves, `still_moving`;
    `solve_rate` with its Wilson interval `low high`; `schedule` and `data` (`describe_regime`), several
    joined by ` / `; for each measure and metric, `NAME_min _q1 _median _q3 _max` over the finished runs. The
    steps, seconds and operations to solve are those of the solved runs. Values are NaN where no run has one.
    """
    groups = pd.Series(0, index=frame.index)
    if by:
        groups = frame.groupby(list(by), observed=True, dropna=False, sort=False).ngroup()
    finished = frame["status"] == "finished"
    verdicts = frame["verdict"].astype(object).where(frame["verdict"].notna(), "no_verdict")
    counts = {
        "runs": 1,
        "finished": finished,
        **{name: finished & (verdicts == name) for name in VERDICT_COUNTS},
    }
    if "still_moving" in frame:
        counts["still_moving"] = finished & frame["still_moving"].eq(True)
    counted = pd.DataFrame(counts, index=frame.index).groupby(groups).sum()
    counted["solve_rate"] = counted["solved"] / counted["finished"]
    pairs = zip(counted["solved"], counted["finished"], strict=True)
    intervals = [wilson(solved, n) if n else (float("nan"),) * 2 for solved, n in pairs]
    counted[["low", "high"]] = pd.DataFrame(intervals, counted.index, ["low", "high"], dtype=float)
    regimes = describe_regime(frame).groupby(groups).agg(lambda texts: " / ".join(texts.dropna().unique()))
    numbers = frame[[*MEASURES, *list_metric_columns(frame)]].where(finished)
    numbers[[*TO_SOLVE]] = numbers[[*TO_SOLVE]].where(verdicts == "solved")
    trained = numbers["steps"].where(numbers["steps"] > 0)
    numbers["seconds_per_1000_steps"] = 1000 * numbers["wall_seconds"] / trained
    quantiles = numbers.groupby(groups).quantile(list(_QUANTILES)).unstack()
    quantiles.columns = [f"{name}_{_QUANTILES[q]}" for name, q in quantiles.columns]
    first = frame.loc[~groups.duplicated(), list(by)].reset_index(drop=True)
    return pd.concat([first, counted, regimes, quantiles], axis=1)
