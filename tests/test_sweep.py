"""Sweeps and single runs: identity, widening, failures, resume, dry run, folders."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import pytest
from helpers import TINY, last_checkpoint, outcome, started

from forethought.cli.main import run
from forethought.config import Composer
from forethought.errors import InputError
from forethought.results import collect, list_strangers, read_results
from forethought.sweeps import Locked, lock, read_grid, sweep_status

SWEEP = ["train", "-m", "sweep=s", *TINY, "hydra/launcher=basic"]
S = Path("multirun/s")


def name_of(*overrides):
    (cell,) = Composer(list(overrides)).cells()
    return cell.name


def states(folder=S):
    return sorted(cell.state for cell in sweep_status(folder))


def test_a_cell_is_known_by_what_determines_its_result(workplace):
    plain = name_of("task.degree=3", "seed=1")
    assert plain.startswith("path_star-3x4-gpt-3x64-next_token-s1-")
    default = "task.path_length=4"
    same = ["logger=wandb", "hardware=cpu", "hardware.threads=2", "sweep=x", "log_every=7", "dry_run=true"]
    for word in [default, *same, "trainer.profiler=simple"]:
        assert name_of("seed=1", "task.degree=3", word) == plain
    different = ["seed=2", "optimizer.lr=2e-3", "batch_size=32", "model.mask=prefix", "task.num_nodes=12"]
    different += ["precision=bf16", "+trainer.detect_anomaly=true"]
    assert len({plain, *(name_of("task.degree=3", "seed=1", word) for word in different)}) == 8
    assert name_of("optimizer.lr=1", "optimizer.weight_decay=0") == name_of(
        "optimizer.lr=1.0", "optimizer.weight_decay=0.0"
    )


def test_the_server_of_the_pool_starts_first_if_there_is_something_to_run(workplace, monkeypatch):
    class Started(Exception):
        pass

    monkeypatch.setattr("forethought.cli.carry_out.start_server", Mock(side_effect=Started))
    pool = [*SWEEP[:-1], "hydra/launcher=pool", "seed=0"]
    with pytest.raises(Started):
        run(pool)
    assert run([*pool, "dry_run=true"]) == 0
    assert run([*SWEEP, "seed=0"]) == 0
    assert run(pool) == 0, "finished before"
    with pytest.raises(Started):
        run([*pool, "force=true"])


@pytest.mark.slow
def test_a_sweep_runs_what_is_new(workplace, capsys):
    """4 cells; again: nothing; wider: only what is new. The report and `status` count the same cells."""
    words = [*SWEEP, "objective=next_token,teacherless"]
    for more, said in (
        (["task.degree=2,3", "seed=0"], "4 cells, 0 finished before, 4 to run"),
        (["task.degree=2,3", "seed=0"], "4 cells, 4 finished before, 0 to run"),
        (["task.degree=2", "seed=0,1"], "4 cells, 2 finished before, 2 to run"),
    ):
        assert run([*words, *more]) == 0
        out = capsys.readouterr().out
        assert said in out
        count, before, new = (int(word) for word in said.split() if word.isdigit())
        counted = [f"[{index}/{count}]" for index in range(before + 1, count + 1)]
        assert [line.split()[0] for line in out.splitlines() if line.startswith("[")] == counted
        assert len(counted) == new
        assert f"{count} of {count} cells finished" in out
    assert {read_results(path.parent).sweep for path in S.glob("*/results.json")} == {"s"}
    assert run(["status", str(S)]) == 0
    assert "6 cells: 6 finished" in capsys.readouterr().out
    assert run(["report", str(S)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"report: {S}/report/report.html"
    assert (S / "report/cells.csv").read_text().count("\n") == 7


def test_an_impossible_cell_and_a_failing_one_cost_only_themselves(workplace, capsys):
    words = [*SWEEP, "task.num_nodes=10", "optimizer.clip_norm=null"]
    grid = ["task.degree=2,4", "optimizer.lr=1e30,1e-3"]
    for said in ("0 finished before, 2 to run", "1 finished before, 1 to run"):
        assert run([*words, *grid]) == 1
        out = capsys.readouterr().out
        assert f"2 cells, {said}" in out
        assert "impossible: path_star-4x4" in out
        assert "task.num_nodes=10: G(4,4) has 13 nodes" in out
        assert "1 of 2 cells finished" in out
        assert "the training loss became nan" in out
        (log,) = [line.split("log: ")[1] for line in out.splitlines() if "log: " in line]
        assert "Traceback" in Path(log).read_text()
    assert states() == ["failed", "finished"]
    assert run([*words, "task.degree=4,5", "sweep=none"]) == 2
    assert not Path("multirun/none").exists()


def test_dry_run_writes_nothing(workplace, capsys):
    words = ["task.degree=2,4", "task.num_nodes=10", "seed=range(2)", "dry_run=true"]
    assert run(["train", "-m", *words, *TINY]) == 0
    out = capsys.readouterr().out
    assert "2 cells: 0 finished, 2 to run; and 2 impossible" in out
    assert "at most" in out
    assert os.listdir() == []


def test_one_process_at_a_time_on_a_cell(tmp_path):
    with lock(tmp_path):
        code = f"import pathlib, forethought.sweeps as s\nwith s.lock(pathlib.Path({str(tmp_path)!r})): pass"
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert "Locked" in other.stderr
        with pytest.raises(Locked), lock(tmp_path):
            pass
    with lock(tmp_path):
        pass


def test_what_runs_elsewhere_is_no_failure(workplace, capsys):
    busy = name_of(*TINY)
    with lock(S / busy):
        assert run([*SWEEP, "seed=0,1"]) == 0
    out = capsys.readouterr().out
    assert f"running in another process: {busy}" in out
    assert "1 of 2 cells finished" in out
    with lock(Path("run")):
        assert run(["train", *TINY, "hydra.run.dir=run"]) == 0
    assert "another process is running it" in capsys.readouterr().out


@pytest.mark.slow
def test_a_folder_may_be_named_by_the_time(workplace, capsys):
    """The time is that of the command, so what was checked is what runs; also over groups."""
    assert run(["train", *TINY, "hydra.run.dir='outputs/${now:%Y-%m-%d}/${now:%H-%M-%S}'"]) == 0
    (results,) = Path("outputs").glob("20??-??-??/??-??-??/results.json")
    assert str(results.parent) in capsys.readouterr().out
    words = ["hydra.sweep.dir='mine/${now:%H-%M-%S}'", "objective=next_token,teacherless", "task.degree=2"]
    assert run([*SWEEP, *words]) == 0
    (folder,) = Path("mine").iterdir()
    assert states(folder) == ["finished"] * 2
    assert not Path("multirun").exists()


@pytest.mark.slow
def test_resume_after_the_defaults_changed_says_so(workplace, capsys):
    assert run([*SWEEP, "seed=0,1"]) == 0
    saved = json.loads((S / "grid.json").read_text())
    first, second = saved
    (S / "grid.json").write_text(json.dumps({first[:-8] + "00000000": saved[first], second: saved[second]}))
    capsys.readouterr()
    assert run(["resume", str(S)]) == 0
    assert f"its overrides now make {first}" in capsys.readouterr().out


@pytest.mark.slow
def test_a_sweep_resumes_wherever_it_lies(faulty, capsys, monkeypatch):
    """Moved, asked from another folder, with config folders and the launcher that it had."""
    monkeypatch.setenv("HURRY", "yes")
    Path("more/objective").mkdir(parents=True)
    Path("more/objective/mine.yaml").write_text("# mine\n_target_: forethought.objectives.NextToken\n")
    words = [*SWEEP, *faulty, f"hydra.searchpath=[file://{os.getcwd()}/more]"]
    assert run([*words, "objective=faulty,mine", "objective.fault=slow"]) == 0
    assert run([*SWEEP, "seed=2"]) == 0
    for path in S.glob("*/results.json"):
        path.unlink()
        shutil.rmtree(path.parent / "checkpoints")
    for path in Path().glob("at-work-*"):
        path.unlink()
    moved = S.rename("b,=é x").absolute()
    os.mkdir("elsewhere")
    os.chdir("elsewhere")
    assert run(["resume", f"../{moved.name}"]) == 0
    assert states(moved) == ["finished"] * 3
    assert os.listdir() == [f"at-work-{os.getpid()}"], "hydra/launcher=basic runs in this process"
    one = next(moved.glob("*/results.json"))
    one.unlink()
    os.chdir(one.parent)
    assert run(["resume", "."]) == 0
    assert read_results(Path(".")).sweep == "s"
    grid = read_grid(moved)
    assert run(["resume", str(moved), "max_steps=30", "hydra/launcher=pool", "hydra.launcher.workers=1"]) == 0
    longer = {name: words for name, words in read_grid(moved).items() if name not in grid}
    assert len(longer) == 3
    assert {read_results(moved / name).steps for name in longer} == {30}
    assert {read_results(moved / name).steps for name in grid} == {20}


@pytest.mark.slow
def test_a_cell_goes_on_beyond_its_end(workplace, capsys):
    """With the optimiser's state and the data stream: as a run that was as long from the start."""
    assert run(SWEEP) == 0
    (folder,) = (path.parent for path in S.glob("*/results.json"))
    assert run(["resume", str(folder), "max_steps=40"]) == 0
    assert "from its last checkpoint" in capsys.readouterr().out
    assert run(["train", *TINY, "max_steps=40", "hydra.run.dir=long"]) == 0
    (longer,) = {path.parent for path in S.glob("*/results.json")} - {folder}
    assert read_results(folder).steps == 20
    assert outcome(longer) == outcome("long")


@pytest.mark.slow
def test_a_reader_who_has_seen_enough_is_no_error(workplace):
    """`forethought train … | head -1`."""
    command = [sys.executable, "-m", "forethought", *SWEEP, "seed=0,1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert "2 to run" in process.stdout.readline()
    process.stdout.close()
    error = process.stderr.read()
    assert process.wait() == 0, error
    assert error == ""


@pytest.mark.slow
def test_ctrl_c_leaves_word_and_a_resume_goes_on(workplace):
    process = started("train", *TINY, "max_steps=100000")
    while process.poll() is None and not list(Path("outputs").glob("*/checkpoints/last.ckpt")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"the same command resumes" in error
    assert b"Traceback" not in error
    (folder,) = Path("outputs").iterdir()
    assert read_results(folder).status == "interrupted"
    first = last_checkpoint(folder)["global_step"]
    assert first > 0
    again = started("resume", str(folder))
    while again.poll() is None and last_checkpoint(folder)["global_step"] <= first:
        time.sleep(0.05)
    assert again.poll() is None, "it went on from the checkpoint"
    again.kill()


@pytest.mark.slow
def test_what_belongs_to_a_sweep_is_its_grid(workplace, capsys):
    """Copies and other strangers in its folder are named, and neither counted nor run."""
    assert run(["train", "-m", *TINY, "sweep=s", "seed=0,1"]) == 0
    sweep = Path("multirun/s")
    before = [results.cell for results in collect(sweep).values()]
    cell = sweep / before[0]
    shutil.copytree(cell, sweep / f"{cell.name}.bak")
    shutil.copytree(cell, sweep / "0")
    shutil.copytree(cell, cell / "backup")
    (sweep / "0" / "results.json").write_text("{")  # what is not counted is not read
    assert [results.cell for results in collect(sweep).values()] == before
    assert [cell.name for cell in sweep_status(sweep)] == before
    for command in ("status", "report"):
        capsys.readouterr()
        assert run([command, str(sweep)]) == 0
        captured = capsys.readouterr()
        assert "of 4" not in captured.out
        assert [line.split(": ")[0] for line in captured.err.splitlines()] == [
            str(sweep / "0"),
            str(sweep / f"{cell.name}.bak"),
        ]
    assert [results.cell for results in collect(cell).values()] == before[:1]
    (sweep / before[1]).rename("elsewhere")
    shutil.copytree(cell, sweep / before[1])
    with pytest.raises(InputError, match=f"{before[1]}: holds the run {before[0]}"):
        collect(sweep)


def test_a_copy_of_a_single_run_counts_once(workplace):
    assert run(["train", *TINY]) == 0
    assert run(["train", *TINY, "seed=1", "hydra.run.dir=outputs/named-by-hand"]) == 0
    (original,) = Path("outputs").glob("path_star*")
    for name in ("a-copy", "z-copy"):
        shutil.copytree(original, Path("outputs", name))
    assert sorted(results.seed for results in collect(Path("outputs")).values()) == [0, 1]
    names = [line.split(": ")[0] for line in list_strangers(Path("outputs"))]
    assert names == ["outputs/a-copy", "outputs/z-copy"]


@pytest.fixture
def my_experiment(workplace):
    """Words for an experiment file of a user's own, and a function that edits it."""
    path = Path("mine/experiment/e.yaml")
    path.parent.mkdir(parents=True)
    text = "# @package _global_\ndefaults: [smoke, _self_]\nmodel: {layers: 1, width: 16, heads: 2}\n"
    path.write_text(text)

    def edit():
        path.write_text(text.replace("width: 16", "width: 32") + "max_steps: 30\n")

    return ["--config-dir=mine", "experiment=e"], edit, path


def without_results(*folders):
    for folder in folders:
        (folder / "results.json").unlink()
        shutil.rmtree(folder / "checkpoints")


@pytest.mark.slow
def test_a_resume_goes_on_with_what_the_folder_holds(my_experiment, capsys):
    """Experiment files that are edited or deleted in between change no cell, also none that has not begun."""
    words, edit, path = my_experiment
    assert run(["train", "-m", "sweep=s", *words, "seed=0,1,2", "hydra/launcher=basic"]) == 0
    finished, interrupted, waiting = (S / name for name in read_grid(S))
    for change in (edit, path.unlink):
        without_results(interrupted, waiting)
        shutil.rmtree(waiting)
        change()
        capsys.readouterr()
        began = read_results(finished).stretches
        assert run(["resume", str(S)]) == 0
        assert "3 cells keep the config they had" in capsys.readouterr().out
        assert {cell.name for cell in S.iterdir() if cell.is_dir()} == set(read_grid(S))
        assert states() == ["finished"] * 3
        assert {read_results(S / name).steps for name in read_grid(S)} == {20}
        assert read_results(finished).stretches == began
    assert run(["resume", str(S), "max_steps=40"]) == 0
    longer = [results for results in collect(S).values() if results.steps == 40]
    assert [results.config["model"]["width"] for results in longer] == [16] * 3
    assert run(["resume", str(S), "task=addition"]) == 2
    assert "task=addition" in capsys.readouterr().err


def test_a_single_run_resumes_with_what_its_folder_holds(my_experiment, capsys):
    words, edit, _ = my_experiment
    assert run(["train", *words, "hydra.run.dir=run"]) == 0
    without_results(Path("run"))
    edit()
    capsys.readouterr()
    assert run(["resume", "run"]) == 0
    assert "resumes with the config in the folder" in capsys.readouterr().out
    assert (read_results(Path("run")).steps, read_results(Path("run")).config["model"]["width"]) == (20, 16)


@pytest.mark.slow
def test_a_cell_behind_a_link_belongs_to_its_sweep(workplace):
    assert run([*SWEEP]) == 0
    (name,) = read_grid(S)
    (S / name).rename("other-disk")
    (S / name).symlink_to(Path("other-disk").absolute())
    for folder in (S / name, "other-disk"):
        without_results(Path("other-disk"))
        assert run(["resume", str(folder)]) == 0
        assert (read_results(S / name).sweep, read_results(S / name).cell) == ("s", name)
