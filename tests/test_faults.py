"""Kills at any moment, a full disk, damaged checkpoints: what was reached is kept, and the rest goes on."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from helpers import fault, forethought, states_once_settled, tiny
from test_wrong_input import TINY, spoil

from forethought.cli.main import run
from forethought.results import read_results
from forethought.sweeps import raise_on_signal, sweep_status
from forethought.training import load, run_cell

CELLS = 12
KILLS = 20
SWEEP = [
    *("-m", *TINY.split(), "sweep=s", "seed=range(6)", "objective=next_token,policy_gradient"),
    *("max_steps=80", "eval_every=10", "hydra.launcher.workers=2"),
]


def left_behind(sweep):
    """Return results.json without its stretches, and the curves, of every finished cell."""
    found = {}
    for path in sorted(Path(sweep).glob("*/results.json")):
        results = json.loads(path.read_text())
        if results["status"] != "finished":  # a killed worker, for whom the sweep has written
            continue
        for key in ("wall_seconds", "stretches", "overrides"):
            del results[key]
        del results["config"]["callbacks"]
        found[path.parent.name] = results, (path.parent / "metrics.csv").read_text()
    return found


def reached(sweep):
    """Rows of all curves, as a measure of how far a sweep has come."""
    return sum(path.read_text().count("\n") for path in Path(sweep).glob("*/metrics.csv"))


def workers(group):
    """The processes of a sweep's group that run cells: grandchildren of the first, by way of the server."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            _, parent, of_group = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:  # it has just ended
            continue
        if int(of_group) == group:
            parents[int(stat.parent.name)] = int(parent)
    return [process for process, parent in parents.items() if parents.get(parent) == group]


def wait_for(rng, process):
    """A random moment: while it starts, or some evaluations on and then anywhere between two of them."""
    if rng.random() < 0.2:
        time.sleep(rng.uniform(0, 3))
        return
    goal = reached("multirun/s") + rng.randint(1, 3)
    while process.poll() is None and reached("multirun/s") < goal:
        time.sleep(0.002)
    time.sleep(rng.uniform(0, 0.1))


@pytest.mark.slow
def test_kill_9_at_random_moments(workplace):
    """Single workers and whole process groups; then every file is that of the undisturbed sweep."""
    Path("calm").mkdir()
    os.chdir("calm")
    assert run(["train", *SWEEP]) == 0
    calm = left_behind("multirun/s")
    assert len(calm) == CELLS
    os.chdir("..")

    seed = random.randrange(10**6)
    print(f"seed of the moments: {seed}")  # shown if anything below fails
    rng, killed, finished_before = random.Random(seed), [], []
    while len(killed) < KILLS:
        process = subprocess.Popen(
            [sys.executable, "-m", "forethought", "train", *SWEEP],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_for(rng, process)
        if running := workers(process.pid):
            os.kill(rng.choice(running), signal.SIGKILL)
            killed.append("worker")
            wait_for(rng, process)
        assert process.poll() is None, "the cells are too short to be killed so often"
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        killed.append("group")
        states_once_settled(Path("multirun/s")) if Path("multirun/s/grid.json").exists() else None
        finished_before.append(len(left_behind("multirun/s")))
    print(killed, finished_before)
    assert {"worker", "group"} <= set(killed)
    assert reached("multirun/s") > 0

    assert run(["resume", "multirun/s"]) == 0
    assert left_behind("multirun/s") == calm
    assert not list(Path("multirun/s").glob("*/checkpoints/.*")), "half-written files are cleared away"


RUN = ["train", *TINY.split()]


def step_of(checkpoint):
    return torch.load(checkpoint, weights_only=True)["global_step"]


@pytest.fixture
def calm(workplace, capsys):
    """Return what an undisturbed run leaves."""
    assert run([*RUN, "hydra.run.dir=calm/run"]) == 0
    capsys.readouterr()
    return left_behind("calm")["run"]


@pytest.mark.parametrize(
    ("number", "room", "reached"),
    [(2, 0, 0), (3, 8000, 10)],
    ids=["between the best and the last", "half-way through a checkpoint"],
)
@pytest.mark.slow
def test_a_full_disk_costs_no_earlier_checkpoint(calm, capsys, number, room, reached):
    """The run says why it ended, and later resumes."""
    fault = f"callbacks={{full:{{_target_:faulty.FullDisk,number:{number},room:{room}}}}}"
    assert run([*RUN, fault, "hydra.run.dir=here/run"]) == 1
    assert "failed: OSError: [Errno 27] File too large\n" in capsys.readouterr().err
    assert read_results(Path("here/run")).status == "failed"
    last = Path("here/run/checkpoints/last.ckpt")
    assert (step_of(last) if last.exists() else 0) == reached
    assert not list(Path("here/run/checkpoints").glob(".*"))
    assert run([*RUN, "hydra.run.dir=here/run"]) == 0
    assert left_behind("here")["run"] == calm
    for name in ("last.ckpt", "best.ckpt"):
        assert step_of(f"here/run/checkpoints/{name}") == step_of(f"calm/run/checkpoints/{name}")


@pytest.mark.slow
def test_a_disk_without_room_for_any_result(workplace, monkeypatch):
    """The sweep ends as it should, says why, and another time finishes what it had trained."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    words = ["train", "-m", *TINY.split(), "sweep=s", "hydra/launcher=basic"]
    # A process of its own, whose output goes to pipes: the output of the tests may go to a file.
    done = forethought(*words, "callbacks={full:{_target_:faulty.FullDisk}}")
    assert done.returncode == 1, done.stderr
    assert "multirun/s: 0 of 1 cells finished" in done.stdout
    (cell,) = sweep_status(Path("multirun/s"))
    assert cell.state == "interrupted"
    assert f"{cell.name}: OSError: [Errno 27] File too large; results.json not written" in done.stderr
    assert f"interrupted: {cell.name}: step 20" in done.stdout
    assert "Traceback" not in done.stderr
    assert run(words) == 0


@pytest.mark.slow
def test_a_damaged_checkpoint_costs_only_its_cell(workplace, capsys):
    """One line names it and says how to go on; no code in it runs; without it the cell starts anew."""
    words = ["train", "-m", *TINY.split(), "sweep=s", "seed=0,1", "hydra/launcher=basic"]
    assert run(words) == 0
    calm = left_behind("multirun/s")
    broken, _ = (Path("multirun/s", name) for name in calm)
    last = broken / "checkpoints" / "last.ckpt"
    saved = last.read_bytes()
    for how in ("cut", "hidden_code", "larger"):  # test_wrong_input.py has more
        (broken / "results.json").unlink(missing_ok=True)
        spoil(last, how)
        capsys.readouterr()
        assert run(["resume", "multirun/s"]) == 1
        out = capsys.readouterr().out
        assert "1 of 2 cells finished" in out
        assert f"failed: {broken.name}: {last.resolve()}: " in out
        assert not Path("trapped").exists()
        last.write_bytes(saved)
    (broken / "results.json").unlink()
    last.unlink()
    assert run(["resume", "multirun/s"]) == 0
    assert left_behind("multirun/s") == calm


OBJECT = "callbacks={x:{_target_:own.SavesPath}}"


@pytest.mark.parametrize(
    ("what", "said", "step"),
    [
        ("path", "checkpoint.mine: holds a pathlib.PosixPath", 0),
        ("numpy", "checkpoint.mine: holds a numpy.float64", 0),
        ("function", "checkpoint.mine: holds a builtins.function", 0),
        ("fraction", "checkpoint.mine.0.a: holds a fractions.Fraction", 0),
        (OBJECT, "checkpoint.callbacks.SavesPath.where: holds a pathlib.PosixPath", 0),
        ("buffer in setup", "objective: late has shape (2,)", 0),
        ("fewer weights", "objective: model.norm.bias has no place", 0),
        ("buffer in forward", "objective: late has shape (2,)", 10),
    ],
)
def test_a_checkpoint_that_could_not_be_read_is_not_written(workplace, what, said, step):
    """Before the first step, or at the first checkpoint if it shows only then."""
    word = what if what == OBJECT else f"+objective.what='{what}'"
    results = run_cell(tiny("run", "objective._target_=own.Saves", word))
    assert results.status == "failed"
    assert results.reason.startswith(said)
    assert not list(Path("run").glob("checkpoints/*"))
    assert ("step 10 of 20" in Path("run/run.log").read_text()) == (step == 10)


@pytest.mark.parametrize("what", ["hyper_parameters", "plain"])
def test_a_checkpoint_with_more_plain_data_resumes_and_loads(workplace, what):
    words = ["objective._target_=own.Saves", f"+objective.what={what}"]
    with raise_on_signal(), suppress(KeyboardInterrupt):
        run_cell(tiny("run", *words, fault(13, "SIGTERM")))
    assert run_cell(tiny("run", *words)).status == "finished"
    checkpoint = torch.load("run/checkpoints/last.ckpt", weights_only=True)
    if what == "plain":
        assert checkpoint["mine"]["c"].shape == (1,)
    else:
        assert checkpoint["hyper_parameters"] == {"what": what, "width": 3}
    assert load(Path("run")).state_dict().keys() == checkpoint["state_dict"].keys()
