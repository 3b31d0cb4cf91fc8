"""A search by Optuna: trials are cells, and a search continues where it stopped. Needs the extra [optuna]."""

import re
from pathlib import Path

import pytest
from helpers import TINY

from forethought.cli.main import run
from forethought.config import Composer
from forethought.results import read_curves, read_results
from forethought.sweeps import sweep_status

pytestmark = pytest.mark.slow

SEARCH = ["train", "-m", *TINY, "hydra/launcher=basic", "sweep=s", "hydra/sweeper=optuna"]


def test_the_space_of_a_search(workplace):
    """`a,b` and `range` are choices, `interval` is a range of floats, by `int` of integers."""
    words = ["optimizer.lr=tag(log,interval(1e-4,1e-2))", "model.layers=int(interval(1,3))", "seed=range(3)"]
    words += ["task.reverse=false,true", "max_steps=5", "optimizer.weight_decay=interval(0,0.5)"]
    assert Composer(words, True).search_space() == {
        "optimizer.lr": ("FloatDistribution", {"low": 1e-4, "high": 1e-2, "log": True}),
        "model.layers": ("IntDistribution", {"low": 1, "high": 3, "log": False}),
        "seed": ("CategoricalDistribution", {"choices": [0, 1, 2]}),
        "task.reverse": ("CategoricalDistribution", {"choices": [False, True]}),
        "optimizer.weight_decay": ("FloatDistribution", {"low": 0, "high": 0.5, "log": False}),
    }


def test_a_search_tells_what_came_out_and_goes_on(workplace, capsys):
    """Of a failed trial, too; a second call runs what is missing to n_trials and remembers the first."""
    optuna = pytest.importorskip("optuna")
    words = [
        *SEARCH,
        "optimized_metric=train/loss",
        "hydra.sweeper.direction=minimize",
        "hydra.sweeper.n_jobs=1",
    ]
    words += ["optimizer.lr=1e-3,1e30", "optimizer.clip_norm=null", "seed=range(1000)"]
    # Of the first three trials one has a learning rate of 1e30.
    assert run([*words, "hydra.sweeper.n_trials=3", "hydra.sweeper.sampler.seed=0"]) == 1
    assert "0 trials before, 3 to run" in capsys.readouterr().out
    assert run([*words, "hydra.sweeper.n_trials=4", "hydra.sweeper.sampler.seed=1"]) in (0, 1)
    out = capsys.readouterr().out
    assert "3 trials before, 1 to run" in out
    cells = {cell.name: cell.state for cell in sweep_status(Path("multirun/s"))}
    assert len(cells) == 4
    study = optuna.load_study(study_name="s", storage="sqlite:///multirun/s/optuna.db")
    finals = {}
    for name, state in cells.items():
        seed = read_results(Path("multirun/s", name)).seed
        losses = [row["train/loss"] for row in read_curves(Path("multirun/s", name, "metrics.csv"))]
        finals[seed] = losses[-1] if state == "finished" else None
    assert {trial.params["seed"]: trial.value for trial in study.trials} == finals
    assert {trial.state.name for trial in study.trials} == {"COMPLETE", "FAIL"}
    best = min(value for value in finals.values() if value is not None)
    assert float(re.search(r"best of 4 trials: train/loss=([\d.]+)", out)[1]) == pytest.approx(best, abs=1e-4)


@pytest.mark.slow
def test_a_search_over_groups_values_and_intervals(workplace, capsys):
    """A key applies to the choices that have it; values of an experiment file are searched, too."""
    optuna = pytest.importorskip("optuna")
    Path("mine/experiment").mkdir(parents=True)
    Path("mine/experiment/find.yaml").write_text(
        "# @package _global_\nhydra:\n  sweeper:\n    params:\n"
        "      objective: next_token,multi_token\n      objective.horizon: int(interval(1,3))\n"
    )
    words = [*SEARCH, "--config-dir=mine"]
    words[words.index("experiment=smoke")] = "experiment=find"
    words += ["max_steps=2", "evaluation.test_samples=16", "evaluation.validation_samples=16"]
    words += [
        "optimizer.lr=tag(log,interval(1e-4,1e-2))",
        "hydra.sweeper.n_trials=6",
        "hydra.sweeper.sampler.seed=3",
    ]
    assert run(words) == 0
    study = optuna.load_study(study_name="s", storage="sqlite:///multirun/s/optuna.db")
    assert {trial.params["objective"] for trial in study.trials} == {"next_token", "multi_token"}
    for trial in study.trials:
        assert 1e-4 <= trial.params["optimizer.lr"] <= 1e-2
    configs = [read_results(path.parent).config for path in Path("multirun/s").glob("*/results.json")]
    horizons = {config["objective"].get("horizon", "none") for config in configs}
    assert {"none"} < horizons <= {"none", 1, 2, 3}
    capsys.readouterr()
    assert run(["resume", "multirun/s"]) == 0, "a search resumes as the grid of its trials"
    assert "0 to run" in capsys.readouterr().out


def test_a_metric_that_no_run_has_is_one_line(workplace, capsys):
    pytest.importorskip("optuna")
    assert run([*SEARCH, "seed=0,1", "optimized_metric=val/nothing"]) == 2
    assert "optimized_metric=val/nothing: no such metric; expected one of step" in capsys.readouterr().err
