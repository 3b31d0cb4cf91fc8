"""Which parameters become the axes of the plots, and what is drawn along them."""

import csv
from itertools import product
from typing import Any

import pytest
from reports import run, save

from forethought.cli.main import run as command
from forethought.errors import InputError
from forethought.report.axes import Axes
from forethought.report.groups import Sweep, group
from forethought.report.plots import PLOTS, heat_map, learning, trend
from forethought.report.seeds import wilson
from forethought.report.summary import groups_csv


def grid(seeds: int = 1, objectives: tuple[str, ...] = ("next_token", "teacherless"), **levels: Any) -> Sweep:
    """Every combination; `degree` stands for `task.degree`. Seed 0 solves it, the others do not."""
    keys = [{"layers": "model.layers"}.get(name, f"task.{name}") for name in levels]
    return group(
        [
            run("shortcut" if seed else "solved", seed, objective, dict(zip(keys, values, strict=True)))
            for objective in objectives
            for values in product(*levels.values())
            for seed in range(seeds)
        ]
    )


def test_what_varies_becomes_the_axes() -> None:
    only = ("next_token",)
    assert grid().axes == Axes(hue="objective")
    assert grid(objectives=only, degree=(2, 3)).axes == Axes(x="task.degree")
    # The number with the most values goes along.
    three = grid(degree=(2, 3), path_length=(3, 4, 5))
    assert three.axes == Axes("task.path_length", "task.degree", "objective")
    # A flag is a colour at most.
    assert grid(objectives=only, degree=(2, 3), reverse=(False, True)).axes == Axes(
        "task.degree", hue="task.reverse"
    )
    # Names take the place that numbers leave.
    assert grid(degree=(2, 3), edge_order=("a", "b", "c")).axes == Axes(
        "task.degree", "task.edge_order", "objective"
    )


def test_what_only_some_runs_have_is_no_axis() -> None:
    weights = [run(objective="teacherless", config={"objective.next_token_weight": w}) for w in (0.1, 0.5)]
    assert group([run(), *weights]).axes == Axes(hue="objective")


def test_axes_can_be_asked_for() -> None:
    runs = grid(degree=(2, 3), path_length=(3, 4, 5)).runs
    asked = group(runs, x="objective", hue="task.degree", metric="decision_accuracy").axes
    assert asked == Axes("objective", "task.path_length", "task.degree", "test/decision_accuracy")
    assert group(runs, metric="solved").axes.metric is None
    assert group(runs, metric="steps_to_solve").axes.metric == "steps_to_solve"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"x": "degre"}, "--x: degre: no parameter that varies here; expected one of task.degree, objective"),
        ({"y": "layers"}, "--y: layers: no parameter that varies here"),
        ({"x": "degree", "hue": "task.degree"}, "--x task.degree --hue task.degree: expected a different"),
        ({"metric": "acuracy"}, "--metric: acuracy: no metric; expected one of test/accuracy"),
    ],
)
def test_wrong_axes_are_one_line(asked: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        group(grid(degree=(2, 3)).runs, **asked)


def lines(sweep: Sweep, plot: Any) -> list[list[float]]:
    figure = plot.draw(sweep)
    return [
        list(line.get_ydata()) for axes in figure.axes for line in axes.lines if line.get_marker() != "None"
    ]


def test_trend_draws_solve_rates_with_their_intervals() -> None:
    sweep = grid(seeds=4, degree=(2, 3, 4))
    assert lines(sweep, trend) == [[0.25] * 3] * 2
    (axes,) = trend.draw(sweep).axes
    bars = [list(line.get_ydata()) for line in axes.lines if line.get_marker() == "None"]
    assert bars == [pytest.approx(wilson(1, 4))] * 6
    assert [label.get_text() for label in axes.get_xticklabels()] == ["2", "3", "4"]


def test_trend_draws_medians_of_a_metric() -> None:
    sweep = group(grid(seeds=3, degree=(2, 4)).runs, metric="accuracy")
    assert lines(sweep, trend) == [[0.5, 0.25]] * 2  # of 1, 1/d and 1/d


def test_every_field_of_the_heat_map_is_in_its_place() -> None:
    runs = [
        run(
            "solved" if degree < length else "shortcut",
            0,
            "next_token",
            {"task.degree": degree, "task.path_length": length},
        )
        for degree, length in product((2, 3, 4), (3, 4, 5, 6))
    ]
    figure = heat_map.draw(group(runs, x="degree"))
    assert figure is not None
    heat = figure.axes[0].images[0].get_array()
    assert heat.tolist() == [[float(d < n) for d in (2, 3, 4)] for n in (3, 4, 5, 6)]


def test_many_objectives_are_rows_of_a_heat_map_and_no_lines() -> None:
    names = tuple(f"objective_{letter}" for letter in "abcdefgh")
    sweep = grid(objectives=names, layers=(1, 2, 3))
    assert trend.draw(sweep) is None
    figure = heat_map.draw(sweep)
    assert figure is not None
    assert figure.axes[0].images[0].get_array().shape == (8, 3)
    few = grid(objectives=names[:7], layers=(1, 2, 3))
    assert trend.draw(few) is not None
    assert heat_map.draw(few) is None


def test_solve_rates_are_drawn_somewhere_whatever_varies() -> None:
    """As rows, along an axis or in a plane."""
    names = tuple(f"objective_{letter}" for letter in "abcdefgh")
    for sweep in (
        grid(),
        grid(objectives=names),
        grid(objectives=names, layers=(1, 2)),
        grid(objectives=names, layers=(1, 2), degree=tuple(range(2, 12))),
        grid(objectives=("next_token",), layers=(1, 2)),
        grid(reverse=(False, True)),
        grid(degree=(2, 3), reverse=(False, True)),
    ):
        assert any(PLOTS[name].draw(sweep) for name in ("solve_rate", "trend", "heat_map"))


def test_curves_of_many_settings_are_medians_that_end_where_runs_stop(tmp_path) -> None:
    sweep = grid(3, degree=tuple(range(2, 9)), path_length=(3, 4))
    for each in sweep.runs:
        # Seed 0 stops early at 0.9; the others stay at 0.1 and 0.5.
        share, steps = ((0.9, 1), (0.1, 4), (0.5, 4))[each.seed]
        sweep.curves[each.cell] = {
            "val/accuracy": ([250.0 * i for i in range(1, steps + 1)], [share] * steps)
        }
    figure = learning.draw(sweep)
    assert figure is not None
    panels = [axes for axes in figure.axes if axes.lines]
    assert len(panels) == 14
    for axes in panels:
        medians = [line.get_ydata() for line in axes.lines if len(line.get_xdata()) == 4]
        assert [list(line) for line in medians] == [[0.5] * 4] * 2


def test_groups_csv_has_rates_and_quartiles() -> None:
    rows = list(csv.DictReader(groups_csv(grid(seeds=4, degree=(2, 3))).splitlines()))
    assert [(row["objective"], row["task.degree"]) for row in rows] == [
        ("next_token", "2"),
        ("next_token", "3"),
        ("teacherless", "2"),
        ("teacherless", "3"),
    ]
    assert [float(rows[0][name]) for name in ("runs", "solved", "solve_rate")] == [4, 1, 0.25]
    assert (float(rows[0]["solve_rate_low"]), float(rows[0]["solve_rate_high"])) == wilson(1, 4)
    assert float(rows[0]["steps_to_solve_median"]) == 2500


def test_command_line_draws_what_it_is_asked_for(tmp_path, capsys) -> None:
    folder = save(tmp_path, grid(degree=(2, 3), path_length=(3, 4)).runs)
    words = ["--where", "degree=3 and objective=teacherless", "--metric", "decision_accuracy"]
    assert command(["report", str(folder), *words]) == 0
    assert (folder / "report" / "cells.csv").read_text().count("\n") == 3
    html = (folder / "report" / "report.html").read_text()
    assert "<span>where</span> degree=3 and objective=teacherless" in html
    assert '<th title="test/decision_accuracy: median' in html
    assert "decision" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "arguments are required: FOLDER"),
        (["--where", "degree>9"], "holds for none of 2 runs"),
        (["--x", "layers"], "no parameter that varies"),
        (["--metric", "acuracy"], "no metric"),
        (["--wher", "degree=2"], "unrecognized arguments: --wher"),
    ],
)
def test_what_is_wrong_on_the_line_is_one_line_and_nothing_is_written(
    tmp_path, capsys, words, message
) -> None:
    folder = save(tmp_path, grid(degree=(2,)).runs)
    assert command(["report", *([str(folder)] if words else []), *words]) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert (err.count("\n"), out) == (1, "")
    assert not (folder / "report").exists()
