"""Choice of the axes of the plots."""

from itertools import product
from typing import Any

import pytest
from reports import make_run, make_sweep, save_runs

from forethought.cli.main import run as command
from forethought.errors import InputError
from forethought.report import Sweep
from forethought.report.axes import Axes
from forethought.results import Results


def make_runs(
    seeds: int = 1, objectives: tuple[str, ...] = ("next_token", "teacherless"), **levels: Any
) -> list[Results]:
    """Return every combination of levels of `task.degree` etc. Only seed 0 solves the task."""
    keys = [f"task.{name}" for name in levels]
    return [
        make_run("shortcut" if seed else "solved", seed, objective, dict(zip(keys, values, strict=True)))
        for objective in objectives
        for values in product(*levels.values())
        for seed in range(seeds)
    ]


def make_grid(*args: Any, **levels: Any) -> Sweep:
    return make_sweep(make_runs(*args, **levels))


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


def test_a_numeric_parameter_that_some_runs_lack_is_the_last_choice() -> None:
    weights = [
        make_run("solved", 0, "teacherless", {"objective.next_token_weight": w, "task.degree": d})
        for w, d in product((0.1, 0.5), (2, 3))
    ]
    baseline = [make_run(config={"task.degree": d}) for d in (2, 3)]
    weight = "objective.next_token_weight"
    assert make_sweep([*baseline, *weights]).axes == Axes("task.degree", weight, "objective")
    assert make_sweep([baseline[0], weights[0], weights[2]]).axes == Axes(weight, hue="objective")
    # One value beside none is no axis.
    window = [make_run(objective=name, config={"model.window": w}) for name in "ab" for w in (None, 4)]
    assert make_sweep(window).axes == Axes(hue="objective")


def test_axes_can_be_requested() -> None:
    runs = make_runs(degree=(2, 3), path_length=(3, 4, 5))
    axes = make_sweep(runs, x="objective", hue="task.degree", metric="decision_accuracy").axes
    assert axes == Axes("objective", "task.path_length", "task.degree", "test/decision_accuracy")
    assert make_sweep(runs, metric="solved").axes.metric is None
    assert make_sweep(runs, metric="steps_to_solve").axes.metric == "steps_to_solve"


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
        make_sweep(make_runs(degree=(2, 3)), **requested)


def test_command_line_options(tmp_path, capsys) -> None:
    folder = save_runs(tmp_path, make_runs(degree=(2, 3), path_length=(3, 4)))
    words = ["--where", "degree=3 and objective=teacherless", "--metric", "decision_accuracy"]
    assert command(["report", str(folder), *words]) == 0
    assert (folder / "report" / "cells.csv").read_text().count("\n") == 3
    html = (folder / "report" / "report.html").read_text()
    assert "<span>where</span> degree=3 and objective=teacherless" in html
    assert '<th title="test/decision_accuracy: median' in html
    assert "decision" in capsys.readouterr().out
