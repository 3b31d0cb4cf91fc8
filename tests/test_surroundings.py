"""Other machines and other surroundings: each error names its own cause, and no setting leaks in."""

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import TINY

from forethought.cli.main import run

SWEEP = ["train", "-m", *TINY, "sweep=s", "seed=0,1"]


def test_the_pool_runs_with_a_long_temporary_folder(workplace, long_temporary_folder):
    """In a process of its own, as the server of the pool opens its socket once."""
    code = "import functools, jobs; from forethought.launchers.processes import run_processes\n"
    code += "print(run_processes([functools.partial(jobs.write, '.', 0)], [{}], ['jobs'])[0].exit_code)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "0\n", done.stderr
    assert Path("0").exists()


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ("socket", "AF_UNIX path too long"),
        ("processes", "Resource temporarily unavailable"),
        ("memory", "/dev/shm/x: Permission denied"),
    ],
)
def test_an_error_of_the_system_names_its_own_cause(workplace, monkeypatch, capsys, fault, cause):
    monkeypatch.setenv("UNABLE", fault)
    assert run([*SWEEP, "hydra/launcher=basic", "hydra.launcher._target_=faulty.Unable"]) == 2
    assert capsys.readouterr().err == f"forethought: {cause}\n"


def test_a_full_disk_names_the_folder(workplace, monkeypatch, capsys):
    monkeypatch.setenv("UNABLE", "disk")
    assert run([*SWEEP, "hydra/launcher=basic", "hydra.launcher._target_=faulty.Unable"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("forethought: multirun/s: No space left on device; ")


@pytest.fixture
def finished(workplace):
    """A run and a sweep with a finished and an unfinished cell. Return the folder of the latter."""
    assert run(["train", *TINY, "hydra.run.dir=run"]) == 0
    assert run([*SWEEP, "hydra/launcher=basic"]) == 0
    first, *_ = sorted(Path("multirun/s").glob("*/results.json"))
    first.unlink()
    return first.parent


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_named(finished, monkeypatch, capsys, code):
    """Lustre without the mount option `flock`, NFS without a lock server."""

    def flock(file, operation):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    capsys.readouterr()
    for words, path in (
        (["train", *TINY, "hydra.run.dir=new"], "new/.lock"),
        ([*SWEEP, "sweep=new"], "multirun/new/.grid.lock"),
        (["resume", "multirun/s"], "multirun/s/.grid.lock"),
        (["status", "multirun/s"], finished / ".lock"),
    ):
        assert run(words) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"{path}: cannot be locked ({os.strerror(code)}); " in line
        assert "flock" in line.partition("; ")[2]
    assert run(["status", "run"]) == 0, "finished runs need no lock"


def test_a_lock_that_cannot_be_opened_is_named(finished, capsys):
    (finished / ".lock").unlink()
    (finished / ".lock").mkdir()
    capsys.readouterr()
    assert run(["status", "multirun/s"]) == 2
    assert capsys.readouterr().err == f"forethought: {finished / '.lock'}: Is a directory\n"


@pytest.mark.parametrize(
    ("command", "folder", "shown"),
    [("evaluate", "evaluations", "test/accuracy"), ("report", "report", "undertrained")],
)
def test_what_was_computed_is_printed_before_it_is_written(finished, capsys, command, folder, shown):
    """As in the folder of another user's run."""
    Path("run", folder).write_text("not a folder")
    capsys.readouterr()
    assert run([command, "run"]) == 2
    said = capsys.readouterr()
    assert shown in said.out
    (line,) = said.err.splitlines()
    assert line.startswith(f"forethought: run/{folder}")
    assert "File exists" in line or "Not a directory" in line
