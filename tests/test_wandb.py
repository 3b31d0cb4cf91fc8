"""Data of a run in Weights & Biases, read back from its offline file."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import wandb
from helpers import fault, forethought
from reports import make_sweep
from wandb_file import history_of, inspect, items, records

from forethought.cli.main import run
from forethought.loggers.solve_rates import solve_rates
from forethought.loggers.wandb_environment import logged_in
from forethought.results import MEASURES, collect, read_curves, read_results

TINY = ["experiment=smoke", "model.layers=1", "model.width=16", "logger=wandb"]
BASIC = ["train", "-m", "sweep=s", "hydra/launcher=basic", *TINY]
BEST = {"val/accuracy": "max", "val/forced_loss": "min", "train/loss": "min"}


def entries(folder):
    """Return the folders that `wandb leet` lists, by W&B id without its random end."""
    found = sorted(Path(folder, "wandb").glob("*run-*"))
    return {path.name.split("-", 3)[-1].rpartition("-")[0]: path for path in found}


def id_of(folder):
    return (Path(folder) / ".wandb_id").read_text().strip()


def single_run():
    """Return the folder of the only run in outputs/ and its W&B file."""
    (folder,) = Path("outputs").iterdir()
    (path,) = folder.glob("wandb/*run-*")
    return folder, path


@pytest.mark.slow
def test_an_offline_sweep_read_back(workplace, capsys):
    """Its cells share this process and a folder for `wandb leet`, and nothing else."""
    wandb.teardown()  # a single run before this one has left its service, which a sweep ends
    environment = {name: value for name, value in os.environ.items() if "WANDB" in name}
    swept = ["objective=next_token,teacherless", "task.degree=2,3", "seed=1"]
    assert run([*BASIC, *swept]) == 0
    assert wandb.run is None
    assert {name: value for name, value in os.environ.items() if "WANDB" in name} == environment
    out = capsys.readouterr().out
    assert "wandb leet multirun/s/wandb" in out
    assert "wandb sync multirun/s/wandb/offline-run-*" in out

    listed = entries("multirun/s")
    names = {
        f"{objective} degree={degree}" for objective in ("next_token", "teacherless") for degree in (2, 3)
    }
    assert {id.replace("_degree", " degree=") for id in listed} == names | {"summary_of_s"}
    shown = {inspect(path)["name"]: path for path in listed.values()}
    assert shown.keys() == names | {"summary of s"}
    cells = {results.cell: results for results in collect(Path("multirun/s")).values()}
    for cell, results in cells.items():
        objective, folder = results.choices["objective"], Path("multirun/s", cell)
        path = shown[f"{objective} degree={results.config['task']['degree']}"]
        there, found = inspect(path), records(path)
        (start,) = [record.run for record in found if record.WhichOneof("record_type") == "run"]
        assert start.run_id == there["run_id"] == id_of(folder)
        assert (start.project, start.run_group, start.job_type) == ("forethought", "s", objective)
        assert there["tags"] == [objective, "s", "path_star", "gpt"]
        assert there["state"] == "finished"
        config = {name: json.loads(value) for name, value in items(start.config.update).items()}
        del config["_wandb"]
        assert config == results.config

        history, rows = history_of(path), read_curves(folder / "metrics.csv")
        assert history == rows  # one row a step; x is the optimiser's step
        summary = there["summary"]
        assert {name: summary[name] for name in results.metrics} == results.metrics
        assert summary["verdict"] == results.verdict
        for name, best in BEST.items():
            values = [row[name] for row in rows if name in row]
            if values:  # teacherless forces nothing
                assert summary[name] == {best: (max if best == "max" else min)(values), "last": values[-1]}
        known = {*results.metrics, *(name for row in rows for name in row)}
        others = {name for name in summary if name not in known and not name.startswith("_")}
        assert others <= {"status", "verdict", *MEASURES}
        assert summary["training_flops"] == results.training_flops

    path = shown["summary of s"]
    (start,) = [record.run for record in records(path) if record.WhichOneof("record_type") == "run"]
    assert (start.run_group, start.job_type) == ("s", "summary")
    lines = solve_rates(make_sweep(cells.values())).lines
    first, last = history_of(path)
    assert first == {"step": 2, **{name: line[2] for name, line in lines.items()}}
    plots = {path.stem for path in Path("multirun/s/report/plots").glob("*.png")}
    assert {name.split("/")[1].split(".")[0] for name in last if name.startswith("plots/")} == plots
    assert all(name.startswith(("_", "solve_rate/")) for name in inspect(path)["summary"])


@pytest.mark.slow
def test_a_failed_run_is_failed_there_too(workplace, capsys):
    assert run(["train", *TINY, "optimizer.lr=1e30", "optimizer.clip_norm=null"]) == 1
    folder, path = single_run()
    assert inspect(path)["state"] == "failed"
    assert inspect(path)["summary"]["status"].startswith("failed: ")
    assert wandb.run is None
    assert f"wandb sync {folder}/wandb/offline-run-*" in capsys.readouterr().out


@pytest.mark.slow
def test_a_stopped_run_has_not_failed_and_is_one_entry_when_resumed(workplace):
    words = ["train", *TINY, "max_steps=30"]
    assert run([*words, fault(12, "SIGTERM")]) == 143
    folder, first = single_run()
    there = inspect(first)
    assert (there["state"], there["summary"]["status"]) == ("finished", "interrupted: stopped by SIGTERM")
    assert any(record.HasField("preempting") for record in records(first))
    assert run(words) == 0
    folder, second = single_run()
    assert inspect(second)["run_id"] == there["run_id"] == id_of(folder)
    assert history_of(second) == read_curves(folder / "metrics.csv")
    assert inspect(second)["summary"]["status"] == "finished"
    assert (folder / "wandb" / "earlier" / first.name).is_dir()


@pytest.mark.slow
def test_each_folder_has_an_id_of_its_own_until_it_is_deleted(workplace, monkeypatch):
    ids = []

    def new_id(*words, folder="outputs/a", **environment):
        with monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            assert run(["train", f"hydra.run.dir={folder}", *TINY, *words]) == 0
        ids.append(id_of(folder))
        assert len(set(ids)) == len(ids)
        assert {path.name.split("-", 3)[-1] for path in Path(folder, "wandb").glob("*run-*")} >= {ids[-1]}

    new_id()
    new_id(folder="outputs/b")
    new_id("force=true")
    shutil.rmtree("outputs/a")
    new_id()
    new_id(folder="outputs/c", WANDB_RUN_ID="chosen")
    assert ids[-1] == "chosen"


@pytest.mark.slow
def test_names_are_cleaned_and_bounded(workplace):
    long = "checkpoints/" + "model:1?#" * 18
    assert run(["train", *TINY, f"model.label='{long}'", "hydra.run.dir=run"]) == 0
    there = inspect(next(Path("run/wandb").glob("*run-*")))
    assert there["state"] == "finished"
    assert len(there["run_id"]) <= 64
    assert len(there["name"]) <= 128
    assert not set(":;,#?/'%") & set(there["run_id"] + there["name"])


@pytest.mark.slow
def test_w_and_bs_own_variables_mean_what_they_say(workplace, monkeypatch, capsys):
    wandb.teardown()  # W&B reads its settings once a process
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert run([*BASIC]) == 0
    assert "wandb" not in capsys.readouterr().out
    assert not [*Path().rglob("wandb"), *Path().rglob(".wandb_id")]
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", "elsewhere")
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    monkeypatch.setenv("WANDB_ENTITY", "us")
    assert run([*BASIC, "seed=1"]) == 0
    assert "wandb leet elsewhere/wandb" in capsys.readouterr().out
    assert not list(Path("multirun").rglob("wandb"))
    cell, _ = entries("elsewhere").values()
    (start,) = [record.run for record in records(cell) if record.WhichOneof("record_type") == "run"]
    assert (start.project, start.entity) == ("mine", "us")
    assert run([*BASIC, "seed=2", "logger.project=other"]) == 0
    assert "other" in {inspect(path)["project"] for path in Path("elsewhere/wandb").glob("*run-*")}


@pytest.mark.slow
def test_a_run_of_one_device_is_rank_zero_in_any_surroundings(workplace, monkeypatch):
    """As the second of four seeds under one `srun`."""
    for name, value in {"PROCID": "1", "LOCALID": "1", "NTASKS": "4", "JOB_ID": "7", "STEP_ID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("RANK", "1")
    done = forethought("train", *TINY)
    assert done.returncode == 0, done.stderr
    folder, path = single_run()
    assert len(history_of(path)) == 4
    assert history_of(path) == read_curves(folder / "metrics.csv")


def test_a_metric_of_ones_own_arrives_everywhere(workplace, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    assert run(["train", *TINY, "objective._target_=faulty.Logging"]) == 0
    folder, path = single_run()
    rows = read_curves(folder / "metrics.csv")
    assert [row["mine/rows"] for row in rows] == [16] * 4
    assert history_of(path) == rows
    assert read_results(folder).metrics["test/mine"] == 3
    assert inspect(path)["summary"]["test/mine"] == 3


@pytest.mark.slow
def test_a_training_process_draws_nothing(workplace):
    """Also by way of matplotlib's pyplot; torchmetrics imports that where it is installed."""
    code = (
        "import sys; from forethought.cli.main import run; "
        f"assert run({['train', *TINY]}) == 0; "
        "assert not [name for name in sys.modules if name.startswith('forethought.report')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_was_sent_already_is_not_mentioned(workplace, capsys):
    assert run(["train", *TINY]) == 0
    assert "wandb sync" in capsys.readouterr().out
    (path,) = Path("outputs").glob("*/wandb/offline-run-*/*.wandb")
    path.with_suffix(".wandb.synced").touch()  # as `wandb sync` does
    assert run(["train", *TINY]) == 0
    assert "wandb sync" not in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_begun_without_wandb_has_all_its_curves_there(workplace):
    words = ["train", *TINY, "max_steps=30"]
    assert run([*words, fault(17, "SIGTERM"), "logger=csv"]) == 143
    assert run(words) == 0
    assert [row["step"] for row in history_of(single_run()[1])] == [5, 10, 15, 20, 25, 30]


def test_a_login_is_looked_for_and_never_asked_for(workplace, monkeypatch):
    url = "https://dashboard.example"
    assert not logged_in(url)
    netrc = workplace / "netrc"
    netrc.write_text("machine dashboard.example login user password key\n")
    monkeypatch.setenv("NETRC", str(netrc))
    assert logged_in(url)
    monkeypatch.delenv("NETRC")
    monkeypatch.setenv("WANDB_API_KEY", "key")
    assert logged_in(url)
