"""Sweeps: identity, widening, failures, kill -9, resume, status, dry run."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers import TINY, forethought, heeds_ctrl_c

from forethought.cli.main import run
from forethought.config import Composer
from forethought.results import read_results
from forethought.sweeps import Locked, lock, sweep_status


def names(*overrides):
    return [cell.name for cell in Composer(list(overrides)).cells()]


def test_a_cell_is_known_by_what_determines_its_result(workplace):
    (plain,) = names("task.degree=3", "seed=1")
    assert names("seed=1", "task.degree=3") == [plain]
    assert names("seed=1", "task.degree=3", "task.path_length=4") == [plain]  # the default, spelt out
    for same in (
        "logger=wandb",
        "hardware=cpu",
        "hardware.threads=2",
        "sweep=x",
        "log_every=7",
        "dry_run=true",
    ):
        assert names("seed=1", "task.degree=3", same) == [plain]
    others = [
        names("task.degree=3", "seed=1", other)[0]
        for other in (
            "seed=2",
            "optimizer.lr=2e-3",
            "batch_size=32",
            "model.mask=prefix",
            "task.num_nodes=12",
        )
    ]
    assert len({plain, *others}) == 6
    assert names("optimizer.lr=1", "optimizer.weight_decay=0") == names(
        "optimizer.lr=1.0", "optimizer.weight_decay=0.0"
    )
    assert plain.startswith("path_star-3x4-gpt-3x64-next_token-s1-")


def test_a_sweep_from_the_issue(workplace, capsys):
    """16 cells; again: nothing; wider: only what is new; then status and the report."""
    words = ["-m", "sweep=demo", "objective=next_token,teacherless", "task.degree=2,3"]
    words += ["task.path_length=3,4", *TINY]
    assert run(["train", *words, "seed=range(2)"]) == 0
    out = capsys.readouterr().out
    assert "16 cells, 0 finished before, 16 to run" in out
    assert "[16/16]" in out
    folder = Path("multirun/demo")
    assert [cell.state for cell in sweep_status(folder)] == ["finished"] * 16
    assert {read_results(path.parent).sweep for path in folder.glob("*/results.json")} == {"demo"}
    assert run(["train", *words, "seed=range(2)"]) == 0
    assert "16 finished before, 0 to run" in capsys.readouterr().out
    assert run(["train", *words, "seed=0,1,2", "task.degree=2"]) == 0
    assert "12 cells, 8 finished before, 4 to run" in capsys.readouterr().out
    assert run(["status", "multirun/demo"]) == 0
    assert "20 cells: 20 finished" in capsys.readouterr().out
    assert run(["report", "multirun/demo"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == "report: multirun/demo/report/report.html"
    assert Path("multirun/demo/report/cells.csv").read_text().count("\n") == 21


def test_impossible_cells_are_left_out_and_named(workplace, capsys):
    assert run(["train", "-m", "sweep=s", "task.degree=2,4", *TINY]) == 0
    out = capsys.readouterr().out
    assert "left out: path_star-4x4" in out
    assert "task.num_nodes=10: G(4,4) has 13 nodes" in out
    assert len(sweep_status(Path("multirun/s"))) == 1
    assert run(["train", "-m", "sweep=none", "task.degree=4,5", *TINY]) == 2
    assert not Path("multirun/none").exists()


def test_a_wrong_value_stops_the_sweep_before_it_begins(workplace, capsys):
    assert run(["train", "-m", "sweep=s", "task.degree=2,x", *TINY]) == 2
    assert capsys.readouterr().err == "forethought: task.degree=x: expected a valid integer\n"
    assert os.listdir() == []


def test_a_failing_cell_costs_only_itself(workplace, capsys):
    words = ["-m", "sweep=s", "optimizer.lr=1e30,1e-3,1e-4", "optimizer.clip_norm=null", *TINY]
    assert run(["train", *words]) == 1
    out = capsys.readouterr().out
    assert "2 of 3 cells finished" in out
    assert "the training loss became nan" in out
    (log,) = [line.split("log: ")[1] for line in out.splitlines() if "log: " in line]
    assert "Traceback" in Path(log).read_text()
    assert sorted(cell.state for cell in sweep_status(Path("multirun/s"))) == [
        "failed",
        "finished",
        "finished",
    ]
    assert run(["train", *words]) == 1
    assert "2 finished before, 1 to run" in capsys.readouterr().out


def test_dry_run_writes_nothing(workplace, capsys):
    assert run(["train", "-m", "task.degree=2,4", "seed=range(2)", *TINY, "dry_run=true"]) == 0
    out = capsys.readouterr().out
    assert "4 cells: 0 finished, 2 to run, 2 impossible" in out
    assert "at most" in out
    assert os.listdir() == []


def test_one_process_at_a_time_on_a_cell(tmp_path):
    with lock(tmp_path):
        code = f"import pathlib, forethought.sweep as s\nwith s.lock(pathlib.Path({str(tmp_path)!r})): pass"
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert "Locked" in other.stderr
        with pytest.raises(Locked), lock(tmp_path):
            pass
    with lock(tmp_path):
        pass


def test_resume_after_the_defaults_changed_says_so(workplace, capsys):
    words = ["train", "-m", "sweep=s", "seed=0,1", *TINY]
    assert run(words) == 0
    grid = Path("multirun/s/grid.json")
    saved = json.loads(grid.read_text())
    first, second = saved
    saved = {first[:-8] + "00000000": saved[first], second: saved[second]}
    grid.write_text(json.dumps(saved))
    capsys.readouterr()
    assert run(["resume", "multirun/s"]) == 0
    assert f"its overrides now make {first}" in capsys.readouterr().out


@pytest.mark.parametrize("place", ["moved", "b,=é x"])
def test_a_sweep_resumes_wherever_it_lies(workplace, capsys, place):
    """Moved, asked from another folder, composed from a folder of configs given relatively."""
    Path("conf/objective").mkdir(parents=True)
    Path("conf/objective/mine.yaml").write_text("# mine\n_target_: forethought.objectives.NextToken\n")
    words = ["train", "-m", "sweep=s", *TINY]
    assert run([*words, "seed=0,1", "--config-dir=conf", "objective=mine"]) == 0
    assert run([*words, "seed=2"]) == 0
    for path in list(Path("multirun/s").glob("*/results.json"))[:2]:
        path.unlink()
    os.rename("multirun/s", place)
    os.mkdir("elsewhere")
    os.chdir("elsewhere")
    capsys.readouterr()
    assert run(["resume", f"../{place}"]) == 0
    assert [cell.state for cell in sweep_status(Path("..", place))] == ["finished"] * 3
    assert os.listdir() == []
    one = next(Path("..", place).glob("*/results.json"))
    one.unlink()
    os.chdir(one.parent)
    assert run(["resume", "."]) == 0
    assert read_results(Path(".")).sweep == "s"


def test_a_folder_of_ones_own_for_a_sweep(workplace):
    assert run(["train", "-m", "seed=0,1", "hydra.sweep.dir=mine", *TINY]) == 0
    assert [cell.state for cell in sweep_status(Path("mine"))] == ["finished"] * 2
    assert not Path("multirun").exists()


def test_a_cell_that_runs_elsewhere_is_no_failure(workplace, capsys):
    words = ["train", "-m", "sweep=s", "seed=0,1", *TINY]
    (busy, _) = names(*words[1:])
    with lock(Path("multirun/s") / busy):
        code = f"from forethought.cli.main import run; raise SystemExit(run({words}))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"running in another process: {busy}" in done.stdout


def test_a_single_run_that_runs_elsewhere_is_no_failure(workplace):
    with lock(Path("run")):
        done = forethought("train", *TINY, "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    assert "another process is at work on it" in done.stdout


def test_a_reader_who_has_seen_enough_is_no_error(workplace):
    """In this process, where Hydra too sees a cell end so, and tells that it did."""
    words = ["train", "-m", "sweep=s", "seed=0,1", *TINY, "hydra/launcher=basic"]
    command = [sys.executable, "-m", "forethought", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert "2 to run" in process.stdout.readline()
    process.stdout.close()
    error = process.stderr.read()
    assert process.wait() == 0, error
    assert "Broken pipe" not in error


@pytest.mark.slow
def test_ctrl_c_leaves_word_and_a_resume_goes_on(workplace):
    words = ["train", *TINY, "max_steps=100000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "forethought", *words],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        preexec_fn=heeds_ctrl_c,
    )
    while process.poll() is None and not list(Path("outputs").glob("*/metrics.csv")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"the same command goes on" in error
    assert b"Traceback" not in error
    (folder,) = Path("outputs").iterdir()
    assert read_results(folder).status == "interrupted"
    reached = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    assert reached > 0
    again = subprocess.Popen([sys.executable, "-m", "forethought", "resume", str(folder)])
    while again.poll() is None:
        time.sleep(0.05)
        if torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] > reached:
            break
    assert again.poll() is None, "it went on from the checkpoint"
    again.kill()
