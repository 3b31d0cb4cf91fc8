"""Order of the objectives in every table and plot."""

import pandas as pd

BASELINE = "next_token"


def order_objectives(runs: pd.DataFrame) -> list[str]:
    """Return the objectives: the baseline first, the others by solve rate, median accuracy and name."""
    finished = runs["status"] == "finished"
    reached = pd.DataFrame(
        {
            "objective": runs["objective"],
            "solved": (runs["verdict"] == "solved").where(finished).astype(float),
            "accuracy": runs.get("test/accuracy", pd.Series(dtype=float)),
        }
    )
    table = reached.groupby("objective").agg({"solved": "mean", "accuracy": "median"}).fillna(-1)
    return sorted(table.index, key=lambda name: (name != BASELINE, *-table.loc[name], name))
