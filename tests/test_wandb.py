"""Data of a run in Weights & Biases, read back from its offline file."""

import json
import os
from pathlib import Path

import wandb
from helpers import fault
from wandb_file import items, records

from forethought.cli.main import run
from forethought.loggers.wandb import logged_in
from forethought.results import read_curves, read_results

TINY = ["experiment=smoke", "model.layers=1", "model.width=16", "logger=wandb"]
BASIC = ["train", "-m", "sweep=s", "hydra/launcher=basic", *TINY]
BEST = {"val/accuracy": "max", "val/forced_loss": "min", "train/loss": "min"}


def files(sweep):
    """Of a sweep's cells; and of its report."""
    found = sorted(Path("multirun", sweep).glob("*/wandb/offline-run-*/*.wandb"))
    return [path for path in found if path.parts[2] != "report"], [p for p in found if p.parts[2] == "report"]


def summary_of(found):
    summary = {}
    for record in found:
        if record.HasField("summary"):
            summary.update({key: json.loads(value) for key, value in items(record.summary.update).items()})
    return summary


def table_of(path, entry):
    """Columns and rows of a table, from the file that lies beside the .wandb file."""
    table = json.loads((path.parent / "files" / entry["path"]).read_text())
    return table["columns"], table["data"]


def test_an_offline_sweep_read_back(workplace, capsys):
    """Its cells share this process, and nothing else."""
    environment = {name: value for name, value in os.environ.items() if "WANDB" in name}
    assert run([*BASIC, "objective=next_token,teacherless"]) == 0
    assert wandb.run is None
    assert {name: value for name, value in os.environ.items() if "WANDB" in name} == environment
    out = capsys.readouterr().out
    assert "wandb sync multirun/s/*/wandb/offline-run-*" in out
    cells, (report,) = files("s")
    assert len(cells) == 2
    for path in cells:
        folder = path.parents[2]
        results, found = read_results(folder), records(path)
        (start,) = [record.run for record in found if record.WhichOneof("record_type") == "run"]
        assert start.run_id == start.display_name == folder.name
        assert start.project == "forethought"
        assert start.run_group == "s"
        assert start.job_type == results.choices["objective"]
        assert list(start.tags) == ["path_star", "gpt"]
        config = {name: json.loads(value) for name, value in items(start.config.update).items()}
        del config["_wandb"]
        assert config == results.config

        history = [items(record.history.item) for record in found if record.HasField("history")]
        curves = {}
        for row in history:
            step = int(row["trainer/global_step"])
            kept = {k: float(v) for k, v in row.items() if k.startswith(("train/", "val/"))}
            curves.setdefault(step, {"step": step}).update(kept)
        rows = read_curves(folder / "metrics.csv")
        assert list(curves.values()) == rows

        summary = summary_of(found)
        assert {name: summary[name] for name in results.metrics} == results.metrics
        assert summary["verdict"] == results.verdict
        for name, best in BEST.items():
            values = [row[name] for row in rows if name in row]
            if values:  # teacherless forces nothing
                assert summary[name] == {best: (max if best == "max" else min)(values)}
            (metric,) = [record.metric for record in found if record.metric.name == name]
            assert getattr(metric.summary, best)
            assert metric.step_metric == "trainer/global_step"
        (exited,) = [record.exit for record in found if record.HasField("exit")]
        assert exited.exit_code == 0

        for name in ("figures/per_position", "figures/error_anatomy"):
            image = path.parent / "files" / json.loads(history[-1][f"{name}.path"])
            assert image.read_bytes().startswith(b"\x89PNG")
        columns, answers = table_of(path, {"path": json.loads(history[-1]["examples.path"])})
        assert columns == ["prompt", "truth", "answer", "outcome"]
        assert [row[1:] for row in answers] == [
            [" ".join(each.truth), " ".join(each.answer), each.outcome] for each in results.examples
        ]
        for row, each in zip(answers, results.examples, strict=True):
            assert each.text == f"{row[0]}={','.join(each.truth)}"

    found = records(report)
    (start,) = [record.run for record in found if record.WhichOneof("record_type") == "run"]
    assert (start.run_id, start.run_group, start.job_type) == ("s-summary", "s", "summary")
    (row,) = [items(record.history.item) for record in found if record.HasField("history")]
    columns, rows = table_of(report, {"path": json.loads(row["cells.path"])})
    rows = sorted((dict(zip(columns, row, strict=True)) for row in rows), key=lambda row: row["cell"])
    for path, cell in zip(cells, rows, strict=True):
        results = read_results(path.parents[2])
        assert (cell["cell"], cell["objective"]) == (results.cell, results.choices["objective"])
        assert cell["test/accuracy"] == results.metrics["test/accuracy"]
        assert (cell["steps"], cell["steps_to_solve"]) == (20, None)
    columns, rows = table_of(report, {"path": json.loads(row["table.path"])})
    assert columns[:2] == ["setting", "solved"]
    assert [row[:2] for row in rows] == [["next_token", "0 of 1"], ["teacherless", "0 of 1"]]
    plots = {path.stem for path in Path("multirun/s/report/plots").glob("*.png")}
    assert {name.split("/")[1].split(".")[0] for name in row if name.startswith("plots/")} == plots


def test_a_failed_run_is_failed_there_too(workplace, capsys):
    assert run(["train", *TINY, "optimizer.lr=1e30", "optimizer.clip_norm=null"]) == 1
    (path,) = Path("outputs").glob("*/wandb/offline-run-*/*.wandb")
    (exited,) = [record.exit for record in records(path) if record.HasField("exit")]
    assert exited.exit_code != 0
    assert wandb.run is None
    assert "wandb sync outputs/" in capsys.readouterr().out


def test_what_was_sent_already_is_not_mentioned(workplace, capsys):
    assert run(["train", *TINY]) == 0
    assert "wandb sync" in capsys.readouterr().out
    (path,) = Path("outputs").glob("*/wandb/offline-run-*/*.wandb")
    path.with_suffix(".wandb.synced").touch()  # as `wandb sync` does
    assert run(["train", *TINY]) == 0
    assert "wandb sync" not in capsys.readouterr().out


def test_a_run_begun_without_wandb_has_all_its_curves_there(workplace):
    words = ["train", *TINY, "max_steps=30"]
    assert run([*words, fault(17, "SIGTERM"), "logger=csv"]) == 143
    assert run(words) == 0
    (path,) = Path("outputs").glob("*/wandb/offline-run-*/*.wandb")
    history = [items(record.history.item) for record in records(path) if record.HasField("history")]
    steps = {int(row["trainer/global_step"]) for row in history if "train/loss" in row}
    assert steps == {5, 10, 15, 20, 25, 30}


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
