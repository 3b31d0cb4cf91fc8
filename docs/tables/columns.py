"""Columns of the tables: numbers and verdicts of the runs of a row, as text."""

from collections.abc import Callable, Iterable

import pandas as pd

from forethought.report.wording import format_count, format_interval
from tables.rows import Column, select

NONE = "–"


def share(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")


def two_decimals(value: float) -> str:
    return f"{value:.2f}".removeprefix("0")


def four_decimals(value: float) -> str:
    return f"{value:.4f}".removeprefix("0")


def nats(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}" if value >= 2 else two_decimals(value)


def per_seed(metric: str, form: Callable[[float], str] = share) -> Column:
    """One number a run, in the order of the seeds."""
    return lambda runs: " ".join(NONE if pd.isna(x) else form(x) for x in runs[metric])


def to_solve(metric: str, form: Callable[[float], str] = format_count) -> Column:
    """As in a report, these are numbers of solved runs: a run may solve the validation and not the test."""
    return lambda runs: per_seed(metric, form)(runs.assign(**{metric: runs[metric].where(is_solved(runs))}))


def is_solved(runs: pd.DataFrame) -> pd.Series:
    return runs["verdict"] == "solved"


def solved(runs: pd.DataFrame) -> str:
    k, n = int(is_solved(runs).sum()), len(runs)
    return f"{k} of {n} ({format_interval(k, n)} %)"


def of_graphs(file: str, where: str, graphs: Iterable[tuple[int, int]]) -> dict[str, Column]:
    """A column for each graph G(d, l): the solved seeds of a setting; empty where it has not run."""

    def column(degree: int, length: int) -> Column:
        def count(_: pd.DataFrame) -> str:
            try:
                runs = select(file, f"{where} and degree={degree} and path_length={length}")
            except LookupError:
                return ""
            return f"{is_solved(runs).sum()} of {len(runs)}"

        return count

    return {f"G({degree},{length})": column(degree, length) for degree, length in graphs}


def unsolved(runs: pd.DataFrame) -> str:
    counts = runs.loc[~is_solved(runs), "verdict"].value_counts()
    names = sorted(counts.index, key=lambda name: (-counts[name], name))
    return ", ".join(f"{counts[name]} {name}" for name in names) or NONE


def parameters(runs: pd.DataFrame) -> str:
    (count,) = runs["parameters"].unique()
    return format_count(count)


def flops_per_step(runs: pd.DataFrame) -> str:
    """Relative to next-token prediction on G(2,5)."""
    baseline = select("quickstart", "objective=next_token and reverse=false")
    cost, unit = ((table["training_flops"] / table["steps"]).mean() for table in (runs, baseline))
    return f"{cost / unit:.2f}"


def entropy(form: Callable[[float], str]) -> Column:
    return lambda runs: f"entropy {per_seed('test/answer_entropy', form)(runs)}"


def of_decoding(name: str, column: Column) -> Column:
    """A column of the evaluations with this decoding, of runs that were evaluated several times."""
    return lambda runs: column(runs[runs["overrides"].str.contains(f"decoding={name} ")])


def constant(text: str) -> Column:
    return lambda runs: text


SOLVED: dict[str, Column] = {"solved (95 %)": solved}
STEPS: dict[str, Column] = {"steps to solve": to_solve("steps_to_solve")}
FLOPS: dict[str, Column] = {"FLOPs a step": flops_per_step}
ACCURACY: dict[str, Column] = {"accuracy": per_seed("test/accuracy")}
DECISION: dict[str, Column] = {"decision accuracy": per_seed("test/decision_accuracy")}
UNSOLVED: dict[str, Column] = {"not solved": unsolved}
PARAMETERS: dict[str, Column] = {"parameters": parameters}
