"""A search by Optuna: trials are cells, and go on where they were left. Needs the extra [optuna]."""

import os
import re
from pathlib import Path

import pytest

from forethought.cli.main import run
from forethought.results import read_curves, read_results
from forethought.sweeps import sweep_status

TINY = ["experiment=smoke", "model.layers=1", "model.width=16", "model.heads=2", "hydra/launcher=basic"]
SEARCH = ["train", "-m", *TINY, "sweep=s", "hydra/sweeper=optuna"]


def test_without_optuna_one_line_says_so(workplace, capsys, monkeypatch):
    monkeypatch.setattr("forethought.cli.compose.find_spec", lambda name: None)
    assert run([*SEARCH, "seed=0,1"]) == 2
    error = capsys.readouterr().err
    assert (
        error == "forethought: hydra/sweeper=optuna: is missing; expected `pip install forethought[optuna]`\n"
    )
    assert os.listdir() == []


def test_replicas_are_for_grids(workplace, capsys, monkeypatch):
    monkeypatch.setattr("forethought.cli.compose.find_spec", lambda name: "there")
    assert run([*SEARCH, "hydra/launcher=pool", "replicas=2"]) == 2
    error = capsys.readouterr().err
    assert error == (
        "forethought: replicas=2: a search asks for cells one by one; expected replicas=1, or "
        "hydra/sweeper=basic\n"
    )
    assert os.listdir() == []


@pytest.mark.slow
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
    assert run([*words, "hydra.sweeper.n_trials=3", "hydra.sweeper.sampler.seed=0"]) == 1, (
        "a trial with a learning rate of 1e30 fails"
    )
    assert "0 trials before, 3 to go" in capsys.readouterr().out
    assert run([*words, "hydra.sweeper.n_trials=4", "hydra.sweeper.sampler.seed=1"]) in (0, 1)
    out = capsys.readouterr().out
    assert "3 trials before, 1 to go" in out
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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("hydra.sweeper.storage=nowhere:x", "hydra.sweeper.storage=nowhere:x: "),
        (
            "optimized_metric=val/nothing",
            "optimized_metric=val/nothing: no such metric; expected one of step",
        ),
        ("hydra.sweeper.trials=3", "hydra.sweeper.trials: no such key; expected one of direction, n_trials"),
        ("dry_run=true", "a search does not know its cells beforehand"),
    ],
)
def test_what_cannot_be_searched_is_one_line(workplace, capsys, words, message):
    pytest.importorskip("optuna")
    assert run([*SEARCH, "seed=0,1", words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
