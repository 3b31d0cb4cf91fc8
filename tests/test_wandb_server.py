"""W&B online, against a server of our own that fails in the ways of a real one."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import wandb
import yaml
from helpers import fault, forethought
from wandb_file import items, records

from forethought.cli.main import run
from forethought.results import read_curves, read_results

pytestmark = pytest.mark.slow

TINY = ["experiment=smoke", "model.layers=1", "model.width=16"]
ONLINE = ["train", *TINY, "logger=wandb", "logger.finish_timeout=2"]


def folder_of_run():
    (folder,) = Path("outputs").iterdir()
    return folder


def run_at(server, folder):
    """Return what the server has of the run in a folder."""
    return server.runs.get((folder / ".wandb_id").read_text().strip())


def training_losses(history):
    """Return (step, loss) in the order of arrival."""
    return [(row["_step"], row["train/loss"]) for row in history if "train/loss" in row]


def losses_on_disk(folder):
    return [(row["step"], row["train/loss"]) for row in read_curves(folder / "metrics.csv")]


def sync(*paths):
    return subprocess.run(
        [sys.executable, "-m", "wandb", "sync", *map(str, paths)], capture_output=True, text=True, check=True
    )


def test_a_run_online(server):
    assert run(ONLINE) == 0
    folder = folder_of_run()
    there = run_at(server, folder)
    assert training_losses(there["history"]) == losses_on_disk(folder)
    assert there["exitcode"] == 0
    assert there["jobType"] == "next_token"
    results = read_results(folder)
    assert {name: there["summary"][name] for name in results.metrics} == results.metrics
    assert not list(folder.glob("wandb/offline-run-*"))


FAULTS = {"500": 500, "slow": 30.0, "silent": 3600.0, "refused": 403}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_server_that_fails_in_mid_run_changes_nothing(server, monkeypatch, capsys, fault):
    """The server accepts the run, and is out of order from then on."""
    assert run(["train", *TINY, "hydra.run.dir=plain"]) == 0
    capsys.readouterr()
    server.fault, server.fault_after = FAULTS[fault], "UpsertBucket"
    began = time.monotonic()
    assert run(ONLINE) == 0
    assert time.monotonic() - began < 25
    folder = folder_of_run()
    online, plain = (read_results(path).model_dump() for path in (folder, Path("plain")))
    for unlike in ("config", "choices", "overrides", "wall_seconds", "stretches"):
        del online[unlike], plain[unlike]
    assert online == plain

    (path,) = folder.glob("wandb/*run-*-*/*.wandb")
    found = records(path)
    history = [
        {key: json.loads(value) for key, value in items(record.history.item).items()}
        for record in found
        if record.HasField("history")
    ]
    assert training_losses(history) == losses_on_disk(folder)
    assert run_at(server, folder)["history"] == []
    if fault == "refused":  # for good: W&B says so itself, and what to do
        return
    assert f"wandb sync {folder}/wandb/offline-run-*" in capsys.readouterr().out

    server.fault = None
    server.released.set()
    wandb.teardown()
    sync(*folder.glob("wandb/offline-run-*"))
    assert training_losses(run_at(server, folder)["history"]) == losses_on_disk(folder)
    assert run_at(server, folder)["summary"]["verdict"] == plain["verdict"]


@pytest.mark.slow
def test_a_killed_run_is_the_same_one_when_it_resumes(server, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    words = [*ONLINE[1:], "max_steps=30"]
    assert forethought("train", *words, fault(11, "SIGKILL")).returncode == -9
    folder = folder_of_run()
    assert training_losses(run_at(server, folder)["history"]) == []  # W&B sends every 15 s
    assert run(["train", *words]) == 0
    there = run_at(server, folder)
    assert training_losses(there["history"]) == losses_on_disk(folder)
    assert len(losses_on_disk(folder)) == 6
    losses = [loss for _, loss in losses_on_disk(folder)]
    assert there["summary"]["train/loss"] == {"min": min(losses), "last": losses[-1]}
    assert there["exitcode"] == 0


@pytest.mark.slow
def test_results_are_on_disk_before_anything_is_published(server, monkeypatch):
    """A server that hangs delays the end of a run by a minute; if the run is killed then, it is finished."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    server.fault, server.fault_after = 3600.0, "UpsertBucket"
    command = [sys.executable, "-m", "forethought", *ONLINE[:-1], "hydra.run.dir=run"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not Path("run/results.json").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(1)
        assert process.poll() is None
        process.kill()
    assert read_results(Path("run")).status == "finished"
    assert run_at(server, Path("run"))["history"] == []


@pytest.mark.slow
@pytest.mark.parametrize("modes", ["offline offline", "online online", "online offline", "offline online"])
def test_a_stopped_run_is_one_run_when_it_resumes(server, modes):
    words = [*ONLINE, "max_steps=30", "optimizer.lr=10.0"]  # the loss rises
    first, second = (f"logger.mode={mode}" for mode in modes.split())
    assert run([*words, first, fault(18, "SIGTERM")]) == 143
    folder = folder_of_run()
    sync(*folder.glob("wandb/offline-run-*"))
    assert [row["_step"] for row in run_at(server, folder)["history"]] == [5, 10, 15]
    assert run_at(server, folder)["exitcode"] == 0
    assert run([*words, second]) == 0
    sync(*folder.glob("wandb/offline-run-*"))
    (there,) = server.runs.values()
    assert [row["_step"] for row in there["history"]] == [5, 10, 15, 20, 25, 30]
    assert training_losses(there["history"]) == losses_on_disk(folder)
    losses = [loss for _, loss in losses_on_disk(folder)]
    assert losses.index(min(losses)) < 3  # before it was stopped
    assert there["summary"]["train/loss"] == {"min": min(losses), "last": losses[-1]}


@pytest.mark.slow
def test_a_sweep_looks_for_its_server_once(server, capsys):
    server.fault = 3600.0
    assert run([*ONLINE, "-m", "sweep=s", "hydra/launcher=basic", "seed=0,1"]) == 0
    assert len(server.asked) == 1
    assert "WANDB_MODE" not in os.environ
    assert "wandb sync multirun/s/wandb/offline-run-*" in capsys.readouterr().out
    assert len(list(Path("multirun/s/wandb").glob("offline-run-*"))) == 3


def test_a_server_that_is_away_costs_the_run_nothing(server, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    assert run(ONLINE) == 0
    assert "wandb sync outputs/" in capsys.readouterr().out
    assert read_results(folder_of_run()).status == "finished"


def test_a_service_that_dies_in_mid_run_changes_nothing(server, capsys):
    assert run([*ONLINE, fault(11, "service")]) == 0
    assert read_results(folder_of_run()).status == "finished"
    assert "wandb sync outputs/" in capsys.readouterr().out
    assert run([*ONLINE, "seed=1"]) == 0  # the next in this process
    assert len(list(Path("outputs").glob("*-s1-*/wandb/offline-run-*/*.wandb"))) == 1


def test_offline_by_w_and_bs_own_word(server, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert run(ONLINE) == 0
    assert server.asked == []
    assert list(folder_of_run().glob("wandb/offline-run-*"))


@pytest.mark.slow
def test_the_sweep_of_the_docs_under_an_agent(server, monkeypatch):
    """W&B's own commands create the sweep, expand the command, and start it twice with the same values."""
    page = (Path(__file__).parents[1] / "docs" / "WANDB.md").read_text()
    (text,) = re.findall(r"`sweep.yaml`:\n\n```yaml\n(.*?)```", page, re.DOTALL)
    Path("sweep.yaml").write_text(text)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    cli = [sys.executable, "-m", "wandb"]
    subprocess.run([*cli, "sweep", "--project", "planning", "sweep.yaml"], check=True)
    swept = yaml.safe_load(server.sweeps["swept"])
    values = {
        name: given["values"][0] if "values" in given else given["min"]
        for name, given in swept["parameters"].items()
    }
    assert values["optimizer.lr"] == 1e-5  # written as 1e-05 on the command line
    server.trials += [("first", values), ("again", values)]
    done = subprocess.run([*cli, "agent", "me/planning/swept"], capture_output=True, text=True, check=True)
    assert server.runs.keys() == {"first", "again"}, done.stderr
    folder = folder_of_run()
    assert (folder / ".wandb_id").read_text().strip() == "again"
    results = read_results(folder)
    assert results.config["optimizer"]["clip_norm"] is None
    metric, rows = swept["metric"]["name"], read_curves(folder / "metrics.csv")
    for there in server.runs.values():
        assert (there["sweep"], there["project"], there["entity"]) == ("swept", "planning", "me")
        assert [row[metric] for row in there["history"] if metric in row] == [
            row[metric] for row in rows if metric in row
        ]
        assert training_losses(there["history"]) == losses_on_disk(folder)
        assert there["summary"]["test/accuracy"] == results.metrics["test/accuracy"]
        assert there["exitcode"] == 0
