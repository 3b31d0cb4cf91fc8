"""Launchers for many machines: submitit on this one and by a stand-in for Slurm, Ray on one node."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from helpers import TINY, at_work, forethought
from lightning.pytorch.plugins.environments import LightningEnvironment, SLURMEnvironment

from forethought.cli.main import run
from forethought.config import Composer
from forethought.results import read_results
from forethought.sweeps import sweep_status
from forethought.training import Session, build


def states():
    """By the fault that each cell was to have."""
    return {cell.name.split("-")[5]: cell for cell in sweep_status(Path("multirun/s"))}


def check_a_killed_cell_and_a_finished_one(done, reason):
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "1 of 2 cells finished" in done.stdout
    assert states()["none"].state == "finished"
    assert (states()["killed"].state, reason in states()["killed"].detail) == ("failed", True)
    assert f"failed: {states()['killed'].name}: {states()['killed'].detail}" in done.stdout


@pytest.mark.slow
def test_submitit_on_this_machine(faulty):
    """A job that is killed costs only itself; what has finished is not submitted again."""
    pytest.importorskip("submitit", reason="needs the extra [slurm]")
    words = ["train", "-m", *faulty, "sweep=s", "hydra/launcher=submitit_local"]
    done = forethought(*words, "objective.fault=killed,none")
    check_a_killed_cell_and_a_finished_one(done, "ended without results")
    assert "2 jobs of submitit (local)" in done.stdout
    again = forethought(*words, "objective.fault=none")
    assert "1 finished before, 0 to run" in again.stdout
    assert "jobs of submitit" not in again.stdout


@pytest.mark.slow
def test_ray_on_one_node(faulty, monkeypatch, long_temporary_folder):
    """As above; with retries Ray starts a killed cell again, from its last checkpoint."""
    pytest.importorskip("ray", reason="needs the extra [ray]")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # otherwise it writes a token to the home folder
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")  # and asks the network
    words = ["train", "-m", *faulty, "sweep=s", "hydra/launcher=ray", "hydra.launcher.remote.max_retries=0"]
    check_a_killed_cell_and_a_finished_one(
        forethought(*words, "objective.fault=killed,none"), "WorkerCrashedError"
    )


SLURM = """
import os, re, subprocess, sys
from pathlib import Path

here, name, words = Path(__file__).parent, Path(sys.argv[0]).name, sys.argv[1:]
if name == "sbatch":  # starts the tasks of the array at once
    script = Path(words[0]).read_text()
    (here / "script").write_text(script)
    array = re.search(r"--array=0-(\\\\d+)%", script)
    tasks = [f"77_{index}" for index in range(int(array[1]) + 1)] if array else ["77"]
    print("Submitted batch job 77")
elif name == "scontrol":  # requeue JOB
    assert words[0] == "requeue", words
    script, tasks = (here / "script").read_text(), [words[1]]
    (here / "requeued").write_text(words[1])
elif name == "sacct":
    print("JobID|State|NodeList")
    for path in here.glob("*.pid"):
        alive = subprocess.run(["kill", "-0", path.read_text()], capture_output=True).returncode == 0
        print(f"{path.stem}|{'RUNNING' if alive else 'COMPLETED'}|here")
elif name == "srun":
    os.execv(sys.executable, words[words.index(sys.executable):])
if name in ("sbatch", "scontrol"):
    for task in tasks:
        job, _, index = task.partition("_")
        slurm = {"SLURM_JOB_ID": job, "SLURM_NTASKS": "1", "SLURM_JOB_NAME": "a", "SLURM_PROCID": "0"}
        if index:
            slurm |= {"SLURM_ARRAY_JOB_ID": job, "SLURM_ARRAY_TASK_ID": index}
        process = subprocess.Popen(
            ["bash", "-c", script], env={**os.environ, **slurm}, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=open(here / f"{task}.log", "a"), stderr=subprocess.STDOUT,
        )
        (here / f"{task}.pid").write_text(str(process.pid))
"""


@pytest.fixture
def slurm(workplace, monkeypatch):
    """A folder of stand-ins for Slurm's commands, which run jobs right here."""
    folder = workplace / "slurm"
    folder.mkdir()
    for name in ("sbatch", "scontrol", "sacct", "srun"):
        (folder / name).write_text(f"#!{sys.executable}\n{SLURM}".replace("\\\\", "\\"))
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


@pytest.mark.slow
def test_a_job_that_slurm_preempts_goes_on_where_it_was(faulty, slurm, monkeypatch):
    """submitit's signal: saved at the step that it is in, queued again, then as if nothing had happened."""
    pytest.importorskip("submitit", reason="needs the extra [slurm]")
    words = ["train", "-m", *faulty, "sweep=s", "objective.fault=slow", "max_steps=60", "eval_every=60"]
    options = ["partition=tiny", "additional_parameters={mail-type:END}", "setup_commands=[hostname]"]
    process = subprocess.Popen(
        [sys.executable, "-m", "forethought", *words, "hydra/launcher=submitit_slurm"]
        + [f"hydra.launcher.{option}" for option in options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    (worker,) = at_work(process)
    (name,) = [cell.name for cell in sweep_status(Path("multirun/s"))]
    os.kill(worker, signal.SIGUSR2)
    said, _ = process.communicate(timeout=180)
    logs = "".join(path.read_text() for path in slurm.glob("*.log"))
    assert process.returncode == 0, said + logs
    assert (slurm / "requeued").read_text().startswith("77")
    assert "stopped by SIGUSR2" in Path("multirun/s", name, "run.log").read_text()
    asked = (slurm / "script").read_text()
    for line in (
        "partition=tiny",
        "signal=USR2@120",
        "cpus-per-task=1",
        "time=240",
        "mem=8GB",
        "mail-type=END",
    ):
        assert f"#SBATCH --{line}" in asked
    assert "\nhostname\n" in asked
    assert "gpus" not in asked
    monkeypatch.setenv("HURRY", "yes")
    calm = [word for word in words if word != "sweep=s"]
    assert forethought(*calm, "sweep=calm", "hydra/launcher=basic").returncode == 0
    one, other = (read_results(Path("multirun", sweep, name)) for sweep in ("s", "calm"))
    assert one.metrics == other.metrics


@pytest.mark.parametrize(
    ("choice", "extra"),
    [
        ("hydra/launcher=submitit_slurm", "slurm"),
        ("hydra/launcher=submitit_local", "slurm"),
        ("hydra/launcher=ray", "ray"),
        ("hydra/sweeper=optuna", "optuna"),
    ],
)
def test_a_missing_package_is_one_line(workplace, monkeypatch, capsys, choice, extra):
    for module in ("ray", "submitit", "optuna"):
        monkeypatch.setattr(f"forethought.launchers.{module}.find_spec", lambda name: None)
    assert run(["train", "-m", *TINY, choice, "seed=0,1"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert choice in line
    assert f"'.[{extra}]'" in line
    assert os.listdir() == []


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:1", "refused"),
        ("[::1]:1", ""),
        ("ray://127.0.0.1:1", "refused"),
        ("ray://nowhere.invalid", ""),
        ("nowhere.invalid:6379", ""),
        ("127.0.0.1:{port}", "another service"),
        ("http://127.0.0.1:{port}", "another service"),
        ("nonsense", "HOST:PORT"),
        ("auto", "Could not find any running Ray"),
        ("other://cluster", "Module"),
    ],
)
@pytest.mark.parametrize("key", ["RAY_ADDRESS", "hydra.launcher.init.address"])
@pytest.mark.slow
def test_an_address_without_a_ray_is_one_line(workplace, monkeypatch, capsys, key, address, said):
    """Within seconds: Ray itself would try for minutes."""
    pytest.importorskip("ray", reason="needs the extra [ray]")
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = address.format(port=server.getsockname()[1])
        threading.Thread(target=greet, args=(server,), daemon=True).start()
        monkeypatch.setenv("RAY_ADDRESS", address if key == "RAY_ADDRESS" else "")
        words = [f"{key}='{address}'"] if "." in key else []
        started = time.monotonic()
        assert run(["train", "-m", *TINY, "hydra/launcher=ray", *words, "seed=0,1"]) == 2
    assert time.monotonic() - started < 30
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("forethought: "))
    assert f"{key}={address}: " in line
    assert said in line


def greet(server):
    """Answer as sshd does."""
    with suppress(OSError):
        while True:
            server.accept()[0].sendall(b"SSH-2.0-x\r\n")


@pytest.mark.parametrize("launcher", ["submitit_slurm", "ray"])
def test_gpus_are_looked_for_where_the_cells_run(workplace, monkeypatch, slurm, capsys, launcher):
    """A cluster's own machines have them; the one that submits need not."""
    pytest.importorskip(launcher.partition("_")[0], reason="needs an extra")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    words = ["train", "-m", *TINY, "hardware=gpu", "dry_run=true"]
    assert run(words) == 2
    assert "hardware.accelerator=gpu" in capsys.readouterr().err
    assert run([*words, f"hydra/launcher={launcher}"]) == 0
    assert "1 to run" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("own_process_group", "environment"), [(True, LightningEnvironment), (False, SLURMEnvironment)]
)
def test_a_process_of_a_launcher_starts_its_own_ranks(tmp_path, monkeypatch, own_process_group, environment):
    """Inside a job of Slurm, Lightning would take the processes that srun started for those of the run."""
    for name in ("NTASKS", "NTASKS_PER_NODE"):
        monkeypatch.setenv(f"SLURM_{name}", "2")
    for name in ("PROCID", "LOCALID", "NODEID"):
        monkeypatch.setenv(f"SLURM_{name}", "0")
    monkeypatch.setenv("SLURM_JOB_NAME", "train")
    (cell,) = Composer([*TINY, "hardware=cpu", "hardware.devices=2"]).cells()
    session = Session(build(cell.config, cell), tmp_path, own_process_group)
    assert isinstance(session.trainer.strategy.cluster_environment, environment)
    assert session.trainer.world_size == 2
