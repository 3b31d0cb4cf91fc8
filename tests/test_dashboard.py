"""`forethought dashboard`: the workspace that it writes to W&B, and its errors."""

import json
import sys
from pathlib import Path

import pytest

from forethought.cli.main import run
from forethought.results import read_results

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


def test_the_workspace_shows_what_the_runs_have(server, capsys):
    pytest.importorskip("wandb_workspaces", reason="needs the extra [dashboard]")
    assert run(OFFLINE) == 0
    capsys.readouterr()
    assert run(["dashboard", "multirun/s"]) == 0
    out = capsys.readouterr().out
    assert f"dashboard: {server.url}/me/forethought?nw=" in out
    assert "wandb sync multirun/s/*/wandb/offline-run-*" in out
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
    assert {name.split(":")[-1] for name in bars} <= results.metrics.keys()
    assert {"test/accuracy", "test/token_accuracy_4", "test/error_wrong_arm"} <= {
        name.split(":")[-1] for name in bars
    }


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
