"""Test that the experiments in conf/ compose, and that those of measured tables compose the rows of these."""

import csv
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch

from forethought.config import Composer
from forethought.config_folder import config_folder, list_choices
from forethought.results.frame import flatten_config, format_value
from forethought.tasks import PathStar
from forethought.training import check, run_cell
from forethought.training.build import build

RESULTS = Path(__file__).parents[1] / "docs" / "results"
EXPERIMENTS = [name for name in list_choices()["experiment"] if name != "smoke"]
GROUPS = ("task", "model", "objective", "optimizer")


SEED = "1"  # one of every measured table


@cache
def composer(experiment):
    return Composer([f"experiment={experiment}", f"seed={SEED}"], is_sweep=True)


@cache
def cells(experiment):
    """Return the cells of one seed, in the order of their rows."""
    return composer(experiment).cells()


def seeds(experiment):
    """Return the seeds of the whole sweep, as text."""
    given = composer(experiment).shared.hydra.sweeper.params.seed
    bounds = re.fullmatch(r"range\((?:(\d+),)?(\d+)\)", given)
    return {*map(str, range(int(bounds[1] or 0), int(bounds[2])))}


@cache
def columns(experiment):
    """Return the config of each cell by the columns of a results file, as these print it."""
    return [
        {key: format_value(value) for key, value in flatten_config(cell.config).items()}
        | {group: cell.choices[group] for group in GROUPS}
        for cell in cells(experiment)
    ]


def check_without_start(cell):
    """Build a cell without memory for its weights, rows, and the runs that it starts from."""
    config = {**cell.config, "init_from": None}
    try:
        with torch.device("meta"):
            build(config)
    except RuntimeError:  # the fixed graph of some tasks is computed from its values
        build(config)


def text_of(experiment):
    return (config_folder() / "experiment" / f"{experiment}.yaml").read_text()


def is_measured(experiment):
    return experiment.endswith("_small") or experiment.startswith("results/")


@cache
def measured_rows():
    """Return the rows of all results files that name their experiment."""
    tables = [list(csv.DictReader(path.open())) for path in sorted(RESULTS.glob("*.csv"))]
    return [row for table in tables for row in table if row.get("experiment")]


def is_config(column):
    return "." in column or column in (*GROUPS, "max_steps", "batch_size", "init_from")


def agrees(row, cell):
    """Compare the config columns of a row. A key that a choice does not have is empty."""
    return all(
        cell.get(key, "null") == ({"True": "true", "False": "false"}.get(value, value) or "null")
        for key, value in row.items()
        if is_config(key)
    )


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_composes_and_every_cell_is_possible(experiment):
    assert Composer([f"experiment={experiment}"]).cells()[0].choices["experiment"] == experiment
    assert {cell.choices["experiment"] for cell in cells(experiment)} == {experiment}
    for cell in cells(experiment):
        check_without_start(cell)


def test_every_experiment_has_a_sweep_of_its_own():
    """A folder that two experiments shared would mix their tables."""
    sweeps = [re.findall(r"^sweep: (.*)$", text_of(experiment), re.MULTILINE) for experiment in EXPERIMENTS]
    for experiment, sweep in zip(EXPERIMENTS, sweeps, strict=True):
        assert sweep in ([experiment.replace("/", "_")], [experiment.removeprefix("results/")])
    assert len({*map(tuple, sweeps)}) == len(sweeps)


@pytest.mark.slow
@pytest.mark.parametrize(
    "experiment", sorted({name for row in measured_rows() for name in row["experiment"].split()})
)
def test_each_measured_row_is_a_cell_of_its_experiment(experiment):
    rows = [row for row in measured_rows() if experiment in row["experiment"].split()]
    assert {row["seed"] for row in rows} == seeds(experiment)
    for row in rows:
        if row["seed"] == SEED:
            assert any(agrees(row, cell) for cell in columns(experiment)), row["cell"]


@pytest.mark.slow
@pytest.mark.parametrize("experiment", [*filter(is_measured, EXPERIMENTS)])
def test_each_cell_of_a_measured_experiment_has_its_rows(experiment):
    """A row names every table that it is in."""
    rows = [row for row in measured_rows() if row["seed"] == SEED]
    rows = [row for row in rows if experiment in row["experiment"].split()]
    for cell in columns(experiment):
        assert any(agrees(row, cell) for row in rows), cell


def test_every_small_sibling_is_measured_and_every_protocol_has_its_evidence():
    named = {name for row in measured_rows() for name in row["experiment"].split()}
    assert {name for name in EXPERIMENTS if name.endswith("_small")} <= named
    for name in EXPERIMENTS:
        if "/" in name and not name.startswith("results/") and not name.endswith("_small"):
            assert re.search(r"\(\d{4}\.\d{5}", text_of(name)), name
            assert "Evidence" in text_of(name), name


def test_a_check_draws_few_rows_of_a_large_training_set(monkeypatch):
    """A dry run of 100,000 mazes would take minutes for each size."""
    counts, plain = [], PathStar.sample_training
    monkeypatch.setattr(
        PathStar, "sample_training", lambda task, n, draws: counts.append(n) or plain(task, n, draws)
    )
    (cell,) = Composer(["experiment=smoke", "task.train_samples=1000000"]).cells()
    check(cell.config)
    assert 0 < sum(counts) < 10_000


@pytest.mark.grid
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_each_row_of_an_experiment_runs(tmp_path, experiment):
    small = ["max_steps=4", "eval_every=2", "log_every=2", "batch_size=4", "init_from=null"]
    sizes = ["model.layers=1", "model.width=16"]
    words = [f"experiment=[{experiment},smoke]", "seed=0", *small, *sizes]
    heads = ["model.heads=2"] if all("heads" in c.config["model"] for c in cells(experiment)) else []
    swept = Composer([*words, *heads], is_sweep=True).cells()
    firsts = {tuple(cell.choices[group] for group in GROUPS): cell for cell in reversed(swept)}
    for cell in firsts.values():
        task = cell.config["task"]
        few = {"train_samples": 200, "box": 2, "size": 4}  # a large Sudoku or maze takes minutes to draw
        few = {key: value for key, value in few.items() if task.get(key)}
        evaluation = {**cell.config["evaluation"], "validation_samples": 8, "test_samples": 8}
        config = {**cell.config, "task": {**task, **few}, "evaluation": evaluation}
        results = run_cell(replace(cell, config=config).at(tmp_path / cell.name))
        assert results.status == "finished", (cell.name, results.reason)
