"""Choice of the axes of the plots, and plots along them."""

import csv
from itertools import product
from typing import Any

import pytest
from reports import make_run, save_runs

from forethought.cli.main import run as command
from forethought.errors import InputError
from forethought.report.axes import Axes
from forethought.report.csv_files import format_groups_csv
from forethought.report.groups import Sweep, group_runs
from forethought.report.plots import PLOTS, heat_map, learning, trend
from forethought.report.seeds import wilson


def make_grid(
    seeds: int = 1, objectives: tuple[str, ...] = ("next_token", "teacherless"), **levels: Any
) -> Sweep:
    """Return every combination of levels of `task.degree` etc. Only seed 0 solves the task."""
    keys = [{"layers": "model.layers"}.get(name, f"task.{name}") for name in levels]
    return group_runs(
        [
            make_run("shortcut" if seed else "solved", seed, objective, dict(zip(keys, values, strict=True)))
            for objective in objectives
            for values in product(*levels.values())
            for seed in range(seeds)
        ]
    )


def test_default_axes() -> None:
    only = ("next_token",)
    assert make_grid().axes == Axes(hue="objective")
    assert make_grid(objectives=only, degree=(2, 3)).axes == Axes(x="task.degree")
    # The numeric parameter with the most values is x.
    three = make_grid(degree=(2, 3), path_length=(3, 4, 5))
    assert three.axes == Axes("task.path_length", "task.degree", "objective")
    # A flag is used for colours only.
    assert make_grid(objectives=only, degree=(2, 3), reverse=(False, True)).axes == Axes(
        "task.degree", hue="task.reverse"
    )
    # Non-numeric parameters follow numeric ones.
    assert make_grid(degree=(2, 3), edge_order=("a", "b", "c")).axes == Axes(
        "task.degree", "task.edge_order", "objective"
    )


def test_parameters_that_some_runs_lack_are_no_axis() -> None:
    weights = [
        make_run(objective="teacherless", config={"objective.next_token_weight": w}) for w in (0.1, 0.5)
    ]
    assert group_runs([make_run(), *weights]).axes == Axes(hue="objective")


def test_axes_can_be_requested() -> None:
    runs = make_grid(degree=(2, 3), path_length=(3, 4, 5)).runs
    axes = group_runs(runs, x="objective", hue="task.degree", metric="decision_accuracy").axes
    assert axes == Axes("objective", "task.path_length", "task.degree", "test/decision_accuracy")
    assert group_runs(runs, metric="solved").axes.metric is None
    assert group_runs(runs, metric="steps_to_solve").axes.metric == "steps_to_solve"


@pytest.mark.parametrize(
    ("requested", "message"),
    [
        ({"x": "degre"}, "--x=degre: .*task.degree, objective"),
        ({"y": "layers"}, "--y=layers: .*task.degree"),
        ({"x": "degree", "hue": "task.degree"}, "--x=task.degree --hue=task.degree: "),
        ({"metric": "acuracy"}, "--metric=acuracy: .*test/accuracy"),
    ],
)
def test_wrong_axes_are_one_line(requested: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        group_runs(make_grid(degree=(2, 3)).runs, **requested)


def read_lines(sweep: Sweep, plot: Any) -> list[list[float]]:
    figure = plot.draw(sweep)
    return [
        list(line.get_ydata()) for axes in figure.axes for line in axes.lines if line.get_marker() != "None"
    ]


def test_trend_draws_solve_rates_with_their_intervals() -> None:
    sweep = make_grid(seeds=4, degree=(2, 3, 4))
    assert read_lines(sweep, trend) == [[0.25] * 3] * 2
    (axes,) = trend.draw(sweep).axes
    bars = [list(line.get_ydata()) for line in axes.lines if line.get_marker() == "None"]
    assert bars == [pytest.approx(wilson(1, 4))] * 6
    assert [label.get_text() for label in axes.get_xticklabels()] == ["2", "3", "4"]


def test_trend_draws_medians_of_a_metric() -> None:
    sweep = group_runs(make_grid(seeds=3, degree=(2, 4)).runs, metric="accuracy")
    assert read_lines(sweep, trend) == [[0.5, 0.25]] * 2  # median of 1, 1/d and 1/d


def test_heat_map_fields_match_their_levels() -> None:
    runs = [
        make_run(
            "solved" if degree < length else "shortcut",
            0,
            "next_token",
            {"task.degree": degree, "task.path_length": length},
        )
        for degree, length in product((2, 3, 4), (3, 4, 5, 6))
    ]
    figure = heat_map.draw(group_runs(runs, x="degree"))
    assert figure is not None
    heat = figure.axes[0].images[0].get_array()
    assert heat.tolist() == [[float(d < n) for d in (2, 3, 4)] for n in (3, 4, 5, 6)]


def test_many_objectives_are_rows_of_a_heat_map_instead_of_lines() -> None:
    names = tuple(f"objective_{letter}" for letter in "abcdefgh")
    sweep = make_grid(objectives=names, layers=(1, 2, 3))
    assert trend.draw(sweep) is None
    figure = heat_map.draw(sweep)
    assert figure is not None
    assert figure.axes[0].images[0].get_array().shape == (8, 3)
    few = make_grid(objectives=names[:7], layers=(1, 2, 3))
    assert trend.draw(few) is not None
    assert heat_map.draw(few) is None


def test_solve_rates_are_always_drawn() -> None:
    """As rows, along an axis or over two parameters."""
    names = tuple(f"objective_{letter}" for letter in "abcdefgh")
    for sweep in (
        make_grid(),
        make_grid(objectives=names),
        make_grid(objectives=names, layers=(1, 2)),
        make_grid(objectives=names, layers=(1, 2), degree=tuple(range(2, 12))),
        make_grid(objectives=("next_token",), layers=(1, 2)),
        make_grid(reverse=(False, True)),
        make_grid(degree=(2, 3), reverse=(False, True)),
    ):
        assert any(PLOTS[name].draw(sweep) for name in ("solve_rate", "trend", "heat_map"))


def test_curves_of_many_settings_are_medians_that_end_where_runs_stop(tmp_path) -> None:
    sweep = make_grid(3, degree=tuple(range(2, 9)), path_length=(3, 4))
    for run in sweep.runs:
        # Seed 0 stops early at 0.9; seeds 1 and 2 stay at 0.1 and 0.5.
        share, steps = ((0.9, 1), (0.1, 4), (0.5, 4))[run.seed]
        sweep.curves[run.cell] = {"val/accuracy": ([250.0 * i for i in range(1, steps + 1)], [share] * steps)}
    figure = learning.draw(sweep)
    assert figure is not None
    panels = [axes for axes in figure.axes if axes.lines]
    assert len(panels) == 14
    for axes in panels:
        medians = [line.get_ydata() for line in axes.lines if len(line.get_xdata()) == 4]
        assert [list(line) for line in medians] == [[0.5] * 4] * 2


def test_groups_csv_has_rates_and_quartiles() -> None:
    rows = list(csv.DictReader(format_groups_csv(make_grid(seeds=4, degree=(2, 3))).splitlines()))
    assert [(row["objective"], row["task.degree"]) for row in rows] == [
        ("next_token", "2"),
        ("next_token", "3"),
        ("teacherless", "2"),
        ("teacherless", "3"),
    ]
    assert [float(rows[0][name]) for name in ("runs", "solved", "solve_rate")] == [4, 1, 0.25]
    assert (float(rows[0]["solve_rate_low"]), float(rows[0]["solve_rate_high"])) == wilson(1, 4)
    assert float(rows[0]["steps_to_solve_median"]) == 2500


def test_command_line_options(tmp_path, capsys) -> None:
    folder = save_runs(tmp_path, make_grid(degree=(2, 3), path_length=(3, 4)).runs)
    words = ["--where", "degree=3 and objective=teacherless", "--metric", "decision_accuracy"]
    assert command(["report", str(folder), *words]) == 0
    assert (folder / "report" / "cells.csv").read_text().count("\n") == 3
    html = (folder / "report" / "report.html").read_text()
    assert "<span>where</span> degree=3 and objective=teacherless" in html
    assert '<th title="test/decision_accuracy: median' in html
    assert "decision" in capsys.readouterr().out
