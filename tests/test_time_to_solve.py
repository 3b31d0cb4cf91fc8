"""Time to solve as censored data: Kaplan-Meier estimates, budgets, runs that still move, and their regime."""

import math
from pathlib import Path
from random import Random
from typing import Any

import pandas as pd
import pytest
from reports import build_report, make_repairs, make_run, make_sweep, save_runs

from forethought import load_sweep
from forethought.cli.show import one_line
from forethought.report import Sweep, build_sweep, plots, wilson
from forethought.report.budgets import count_by_budget, tabulate_budgets
from forethought.report.columns import list_columns
from forethought.report.findings import describe_settings
from forethought.report.seeds import kaplan_meier
from forethought.report.still_moving import is_rising
from forethought.results import Results, write_curves

# Kaplan & Meier (1958), section 2: deaths and losses (False) at these months.
MONTHS = [0.8, 1.0, 2.7, 3.1, 5.4, 7.0, 9.2, 12.1]
DEATHS = [True, False, False, True, True, False, True, False]
ROWS = 64  # of a step


def estimate_slowly(times: list[float], solved: list[bool], at: float) -> float:
    """Return the share solved by a time: the product over all earlier solutions, one by one."""
    unsolved = 1.0
    for time in sorted({t for t, s in zip(times, solved, strict=True) if s and t <= at}):
        at_risk = sum(t >= time for t in times)
        events = sum(t == time and s for t, s in zip(times, solved, strict=True))
        unsolved *= (at_risk - events) / at_risk
    return 1 - unsolved


def test_the_share_is_the_kaplan_meier_estimate() -> None:
    steps = kaplan_meier(MONTHS, DEATHS)
    assert steps[-1].share == pytest.approx(1 - 0.2625)
    assert [step.at_risk for step in steps] == [8, 8, 7, 6, 5, 4, 3, 2, 1]
    random = Random(1)
    for count in range(1, 30):
        times = [float(random.randint(1, 10)) for _ in range(count)]
        solved = [random.random() < 0.6 for _ in range(count)]
        steps = kaplan_meier(times, solved)
        assert (steps[0].time, steps[0].share) == (0, 0)
        expected = [estimate_slowly(times, solved, step.time) for step in steps]
        assert [step.share for step in steps] == pytest.approx(expected)
        assert all(0 <= step.low <= step.share + 1e-12 for step in steps)
        assert all(step.share - 1e-12 <= step.high <= 1 for step in steps)


def test_the_band_is_that_of_wilson_for_the_effective_number_of_runs() -> None:
    # At 5.4 months, three deaths of 8, 5 and 4 at risk: S = 7/8 · 4/5 · 3/4 = 0.525.
    greenwood = 1 / (8 * 7) + 1 / (5 * 4) + 1 / (4 * 3)
    effective = 0.475 / (0.525 * greenwood)
    assert 5.9 < effective < 6.1
    step = next(step for step in kaplan_meier(MONTHS, DEATHS) if step.time == 5.4)
    assert (step.low, step.high) == pytest.approx(wilson(0.475 * effective, effective))


@pytest.mark.parametrize("count", [1, 2, 5, 20])
def test_the_band_without_censoring_is_that_of_k_of_n(count: int) -> None:
    steps = kaplan_meier(range(1, count + 1), [True] * count)
    for solved, step in enumerate(steps):
        assert (step.low, step.high) == pytest.approx(wilson(solved, count)), solved


def test_the_band_of_unsolved_runs_widens_as_they_end() -> None:
    steps = kaplan_meier([1, 2, 3, 3], [False] * 4)
    assert [step.high for step in steps] == pytest.approx([wilson(0, n)[1] for n in (4, 4, 3, 2)])


# Budgets


def make_timed(
    solved_at: int | None, seed: int, objective: str = "next_token", budget: int = 8000
) -> Results:
    """Return a run that solves the task at a step, and ends there, or that ends unsolved."""
    steps = solved_at or budget
    verdict = "solved" if solved_at else "shortcut"
    seen = {"steps": steps, "samples_seen": steps * ROWS, "steps_to_solve": solved_at}
    return make_run(verdict, seed, objective, **seen)


def count(*runs: Results) -> list[tuple[Any, ...]]:
    table = count_by_budget(make_sweep(runs))
    names = ["training_rows", "solved", "runs", "censored", "at_risk"]
    return list(table[names].itertuples(index=False, name=None))


def test_runs_solved_by_several_budgets() -> None:
    runs = [make_timed(at, seed) for seed, at in enumerate((500, 1500, 4000, 7000, None))]
    assert count(*runs) == [
        (1000 * ROWS, 1, 5, 0, 4),
        (2000 * ROWS, 2, 5, 0, 3),
        (4000 * ROWS, 3, 5, 0, 3),
        (8000 * ROWS, 4, 5, 0, 1),
    ]
    estimates = count_by_budget(make_sweep(runs))[["share", "low", "high"]].to_numpy()
    for solved, estimate in enumerate(estimates, 1):
        assert estimate == pytest.approx([solved / 5, *wilson(solved, 5)])


def test_runs_with_a_smaller_budget_are_censored() -> None:
    short = [make_timed(at, seed, "teacherless", 2000) for seed, at in enumerate((900, None))]
    done = [make_timed(900, 0, "token_order", 2000)]
    table = count_by_budget(make_sweep([make_timed(None, 0), *short, *done])).set_index("setting")
    assert table.loc["teacherless", "censored"].tolist() == [0, 0, 1, 1]
    assert table.loc["teacherless", "solved"].tolist() == [1, 1, 1, 1]
    assert table.loc["teacherless", "at_risk"].tolist() == [1, 1, 0, 0]
    shares = table["share"].groupby(level=0, observed=True).apply(list)
    assert shares["teacherless"] == pytest.approx([0.5, 0.5, math.nan, math.nan], nan_ok=True)
    assert shares["token_order"] == [1, 1, 1, 1]
    assert shares["next_token"] == [0, 0, 0, 0]
    headings, rows = tabulate_budgets(table.reset_index())
    assert [title for title, _ in headings] == [f"{64 * n},000 rows" for n in (1, 2, 4, 8)]
    assert ["teacherless", *["1 of 2"] * 2, *["1 of 2, 1 censored"] * 2] in rows


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the pictures out of a report: they take seconds."""
    monkeypatch.setattr(plots, "PLOTS", {})


def test_budgets_are_written_and_shown_where_a_run_solved(tmp_path: Path, no_plots: None) -> None:
    runs = [make_timed(at, seed) for seed, at in enumerate((500, None))]
    page = build_report(save_runs(tmp_path / "a", runs)).read_text()
    assert "Solved by budget" in page
    table = pd.read_csv(tmp_path / "a" / "report" / "budgets.csv")
    assert table["solved"].tolist() == [1] * 4
    assert table["setting"].unique().tolist() == ["next_token"]
    unsolved = build_report(save_runs(tmp_path / "b", [make_timed(None, 0)])).read_text()
    assert "Solved by budget" not in unsolved
    build_report(save_runs(tmp_path / "c", make_repairs()))  # without a number of training rows
    assert pd.read_csv(tmp_path / "c" / "report" / "budgets.csv").empty


# Still moving


def test_a_rise_must_exceed_two_standard_errors() -> None:
    # 20 evaluations: two of the last tenth, two of the one before. At .5, two errors of 1,000 rows are .0447.
    plateau = [0.5] * 18
    assert is_rising([*plateau, 0.55, 0.55], 1000) is True
    assert is_rising([*plateau, 0.54, 0.54], 1000) is False
    assert is_rising([*plateau, 0.54, 0.54], 2000) is True
    assert is_rising([*plateau, 0.60, 0.48], 1000) is False  # one high evaluation
    assert is_rising([*plateau, 0.45, 0.40], 1000) is False
    # 40 evaluations: four and four. The rise before the last eight does not count.
    assert is_rising([0.2] * 32 + [0.5] * 8, 1000) is False
    assert is_rising([0.5] * 36 + [0.5, 0.5, 0.6, 0.7], 1000) is True
    assert is_rising([0.0, 0.0, 0.0, 0.0], 1000) is False
    assert is_rising([1.0, 1.0, 1.0, 1.0], 1000) is False
    assert is_rising([0.1, 0.2, 0.9], 1000) is None


def test_noise_of_the_validation_sample_is_seldom_a_rise() -> None:
    random, rising = Random(0), 0
    for _ in range(400):
        shares = [random.gauss(0.5, math.sqrt(0.25 / 1000)) for _ in range(16)]
        rising += bool(is_rising(shares, 1000))
    assert rising <= 6


def save_curves(folder: Path, curves: dict[str, list[float]], goal: str = "val/accuracy") -> Sweep:
    """Save a run for each curve, by its verdict, with 1,000 validation rows. Return the sweep."""
    for number, (verdict, curve) in enumerate(curves.items()):
        run = make_run(verdict.split()[0], number)
        run.config["evaluation"] = {"validation_samples": 1000}
        cell = folder / run.cell
        cell.mkdir(parents=True)
        (cell / "results.json").write_text(run.model_dump_json())
        rows = [{"step": 100.0 * step, goal: share} for step, share in enumerate(curve, 1)]
        write_curves(cell / "metrics.csv", [{"step": 1.0, "train/loss": 1.0}, *rows])
    return build_sweep(load_sweep(folder))


RISING, FLAT = [0.5] * 18 + [0.7, 0.7], [0.5] * 20


def test_runs_that_still_move_are_counted(tmp_path: Path, no_plots: None) -> None:
    sweep = save_curves(
        tmp_path,
        {"partial": RISING, "shortcut": FLAT, "shortcut 2": FLAT, "solved": RISING, "partial 2": [0.5]},
    )
    assert sweep.runs["still_moving"].tolist()[:3] == [True, False, False]
    assert sweep.runs["still_moving"][3:].isna().all()
    (row,) = sweep.summary.to_dict("records")
    (verdicts,) = (c.format(row) for c in list_columns([row]) if c.title == "verdicts")
    assert verdicts == "2 shortcut, 2 partial, 1 solved (1 still moving)"
    (sentence,) = describe_settings(sweep).values()
    assert sentence.endswith("; 1 of 4 still moving at the end: train longer")
    build_report(tmp_path)
    cells = pd.read_csv(tmp_path / "report" / "cells.csv", dtype=str)
    assert cells["still_moving"].fillna("").tolist() == ["true", "false", "false", "", ""]
    assert pd.read_csv(tmp_path / "report" / "groups.csv")["still_moving"].tolist() == [1]
    selected = build_sweep(load_sweep(tmp_path), "still_moving=true")
    assert selected.runs["verdict"].tolist() == ["partial"]


def test_an_open_ended_run_moves_by_its_creativity(tmp_path: Path) -> None:
    sweep = save_curves(tmp_path, {"partial": RISING}, "val/relative_creativity")
    assert sweep.runs["still_moving"].tolist() == [True]


def test_without_curves_nothing_is_said(tmp_path: Path) -> None:
    for sweep in (
        make_sweep(make_repairs()),
        build_sweep(load_sweep(save_runs(tmp_path, make_repairs(), False))),
    ):
        assert "still_moving" not in sweep.runs
        assert "still_moving" not in sweep.summary
        assert not any("still moving" in sentence for sentence in describe_settings(sweep).values())


def test_a_corrupt_curve_costs_the_curves_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "PLOTS", {"learning": plots.PLOTS["learning"]})
    folder = save_runs(tmp_path, make_repairs())
    next(folder.glob("*/metrics.csv")).write_text("step,val/accuracy\n250,oops\n")
    page = build_report(folder).read_text()
    assert "corrupt, no learning curves" in page


# Regime


def make_regime(verdict: str, seed: int = 0, objective: str = "next_token", **regime: Any) -> Results:
    run = make_run(verdict, seed, objective)
    run.config["optimizer"] = {"schedule": regime.get("schedule", "constant")}
    files = {name: regime.get(name) for name in ("train_samples", "train_file")}
    run.config["task"] |= files
    return run


def titles(sweep: Sweep) -> list[str]:
    return [column.title for column in list_columns(sweep.summary.to_dict("records"))]


def test_the_regime_is_shown_where_it_decides_or_varies_with_the_objective() -> None:
    constant = [make_regime("shortcut"), make_regime("solved", 0, "teacherless")]
    assert titles(make_sweep(constant))[0] == "solved"
    fixed = make_sweep([constant[0], make_regime("solved", 0, "teacherless", train_samples=200_000)])
    assert titles(fixed)[:2] == ["data", "solved"]
    assert fixed.summary["data"].tolist() == ["fresh", "fixed 200,000"]
    swept = make_sweep([make_regime("shortcut"), make_regime("shortcut", 1, train_samples=5)])
    assert "task.train_samples" in swept.keys
    assert titles(swept)[0] == "solved"
    cosine = make_sweep([make_regime("shortcut", schedule="cosine", train_file="a.txt")])
    assert titles(cosine)[:2] == ["schedule", "data"]
    assert cosine.summary[["schedule", "data"]].iloc[0].tolist() == ["cosine", "fixed file"]
    assert titles(make_sweep([make_regime("solved", schedule="cosine")]))[0] == "solved"


def test_an_unsolved_run_under_a_decaying_rate_is_named() -> None:
    remark = "unsolved under a cosine rate: may be a matter of the schedule"
    for verdict, schedule, named in (
        ("shortcut", "cosine", True),
        ("shortcut", "constant", False),
        ("solved", "cosine", False),
    ):
        run = make_regime(verdict, schedule=schedule)
        (sentence,) = describe_settings(make_sweep([run])).values()
        assert sentence.endswith(f"ended {remark}") == named
        assert one_line(run).endswith(remark) == named
