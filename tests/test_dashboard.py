"""`forethought dashboard`: the workspace that it writes to W&B, and its errors."""

import json
import sys
from pathlib import Path

import pytest
from reports import make_sweep

from forethought.cli.dashboard import workspace
from forethought.cli.main import run
from forethought.loggers.solve_rates import solve_rates
from forethought.results import Results, read_results

CELL = ["train", "-m", "sweep=s", "experiment=smoke", "model.layers=1", "model.width=16"]
OFFLINE = [*CELL, "logger=wandb", "logger.mode=offline", "hydra/launcher=basic"]


def complaint(capsys):
    capsys.readouterr()
    assert run(["dashboard", "multirun/s"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def panels(view):
    sections = view["spec"]["section"]["panelBankConfig"]["sections"]
    return [panel for section in sections for panel in section["panels"]]


@pytest.mark.slow
def test_the_workspace_shows_what_the_runs_have(server, capsys):
    pytest.importorskip("wandb_workspaces", reason="needs the extra [dashboard]")
    assert run(OFFLINE) == 0
    capsys.readouterr()
    assert run(["dashboard", "multirun/s"]) == 0
    out = capsys.readouterr().out
    assert f"dashboard: {server.url}/me/forethought?nw=" in out
    assert "wandb sync multirun/s/wandb/offline-run-*" in out
    (view,) = server.views
    assert (view["entityName"], view["projectName"], view["displayName"]) == ("me", "forethought", "s")
    (runs,) = view["spec"]["section"]["runSets"]
    assert '"group"' in json.dumps(runs["filters"])
    assert '"s"' in json.dumps(runs["filters"])
    results = read_results(next(Path("multirun/s").glob("path*")))
    bars = [
        name
        for panel in panels(view)
        for name in panel["config"].get("metrics", [])
        if panel["viewType"] == "Bar Chart"
    ]
    assert {name.split(":")[-1] for name in bars} <= {*results.metrics, "solve_rate/next_token"}
    assert {"test/accuracy", "test/token_accuracy_4", "test/error_wrong_arm"} <= {
        name.split(":")[-1] for name in bars
    }


def result(objective, solved, seed, **config):
    """Results of a run of the card's sweep."""
    words = [f"objective={objective}", *(f"{key.replace('__', '.')}={x}" for key, x in config.items())]
    nested = {"max_steps": 10}
    for key, value in config.items():
        group, name = key.split("__")
        nested.setdefault(group, {})[name] = value
    return Results(
        cell=f"{objective}-{seed}-{config}",
        sweep="card",
        choices={"objective": objective, "logger": "wandb"},
        overrides=[*words, f"seed={seed}"],
        config=nested,
        status="finished",
        seed=seed,
        versions={},
        device="cpu",
        wall_seconds=1.0,
        verdict="solved" if solved else "shortcut",
    )


def test_a_sweep_is_shown_as_in_the_report():
    """Solve rate by degree, a chart for each path length; the baseline is a line in each."""
    pytest.importorskip("wandb_workspaces", reason="needs the extra [dashboard]")
    runs = [
        result(objective, objective == "token_order" and seed < degree, seed, task__degree=degree, **other)
        for objective in ("token_order", "next_token")
        for degree in (2, 3, 4)
        for length in (5, 6)
        for seed in range(4)
        for other in [{"task__path_length": length}]
    ]
    rates = solve_rates(make_sweep(runs))
    assert rates.x == "task.degree"
    charts = {f"solve_rate_path_length_{length}" for length in (5, 6)}
    assert rates.charts == {name: [f"{name}/next_token", f"{name}/token_order"] for name in charts}
    for name in charts:
        assert rates.lines[f"{name}/token_order"] == {2: 0.5, 3: 0.75, 4: 1.0}
        assert rates.lines[f"{name}/next_token"] == {2: 0.0, 3: 0.0, 4: 0.0}
    first = workspace(runs, "me", "forethought").sections[0]
    lines = [panel for panel in first.panels if hasattr(panel, "smoothing_factor")]
    assert {panel.title for panel in lines} == {name.replace("_", " ") for name in charts}
    assert all((panel.x, panel.title_x, panel.range_y) == ("Step", "task.degree", (0, 1)) for panel in lines)
    assert any("plots/trend" in getattr(panel, "media_keys", ()) for panel in first.panels)


def test_the_baseline_is_a_line_where_it_lacks_the_parameter():
    runs = [result("next_token", seed == 0, seed) for seed in range(2)]
    runs += [result("multi_token", horizon > 2, 0, objective__horizon=horizon) for horizon in (1, 2, 4)]
    rates = solve_rates(make_sweep(runs))
    assert rates.x == "objective.horizon"
    assert rates.lines == {
        "solve_rate/next_token": {1: 0.5, 2: 0.5, 4: 0.5},
        "solve_rate/multi_token": {1: 0.0, 2: 0.0, 4: 1.0},
    }


@pytest.mark.slow
def test_what_is_missing_is_said_in_one_line(server, capsys, monkeypatch):
    assert run([*CELL, "logger=csv", "hydra/launcher=basic"]) == 0
    line = complaint(capsys)
    assert "multirun/s: " in line
    assert "logger=wandb" in line
    assert run([*OFFLINE, "seed=1"]) == 0
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "wandb_workspaces", None)
        assert complaint(capsys).endswith("pip install -e '.[dashboard]'")
    pytest.importorskip("wandb_workspaces", reason="needs the extra [dashboard]")
    server.fault, server.fault_after = 403, ""  # the answer to the first look
    assert "rejects" in complaint(capsys)
    server.fault, server.fault_after = 500, None
    assert "does not answer" in complaint(capsys)
    monkeypatch.delenv("WANDB_API_KEY")
    assert "no API key" in complaint(capsys)
