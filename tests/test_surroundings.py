"""Other machines and other surroundings: each error names its own cause, and no setting leaks in."""

import errno
import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib
import pytest
from helpers import TINY, forethought
from reports import make_repairs, make_sweep, save_runs

from forethought.cli.main import run
from forethought.report.plots import render_plot

SWEEP = ["train", "-m", *TINY, "sweep=s", "seed=0,1"]


@pytest.mark.slow
def test_the_pool_runs_with_a_long_temporary_folder(workplace, long_temporary_folder):
    """In a process of its own, as the server of the pool opens its socket once."""
    code = "import functools, jobs; from forethought.processes import run_processes\n"
    code += "print(run_processes([functools.partial(jobs.write, '.', 0)], [{}], ['jobs'])[0].exit_code)"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
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


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a finished run and a finished sweep."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run(["train", *TINY, "hydra.run.dir=run"]) == 0
        assert run([*SWEEP, "hydra/launcher=basic"]) == 0
    return folder


@pytest.fixture
def finished(trained, workplace):
    """A run and a sweep with a finished and an unfinished cell. Return the folder of the latter."""
    shutil.copytree(trained, ".", dirs_exist_ok=True)
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


def test_a_user_s_matplotlibrc_does_not_leak_in():
    sweep = make_sweep(make_repairs())
    plain = render_plot("solve_rate", sweep)
    assert plain
    theirs = {"text.usetex": True, "axes.grid": True, "lines.linewidth": 9, "savefig.transparent": True}
    with matplotlib.rc_context(theirs):
        assert render_plot("solve_rate", sweep) == plain
        assert {key: matplotlib.rcParams[key] for key in theirs} == theirs


@pytest.mark.slow
def test_a_user_s_backend_does_not_leak_in(workplace, monkeypatch):
    save_runs(Path("sweep"), make_repairs())
    monkeypatch.setenv("MPLBACKEND", "nothing")
    done = forethought("report", "sweep")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_a_terminal_and_a_locale_without_unicode(workplace, monkeypatch):
    """A character that the terminal lacks is escaped. Files are UTF-8 wherever they are written."""
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    monkeypatch.setenv("PYTHONWARNDEFAULTENCODING", "1")  # as the locale may be another one than here
    done = forethought("train", *TINY, "task.label='→'", "hydra.run.dir='run→'")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[2] == "run\\u2192"
    warned = [line for line in done.stderr.splitlines() if "EncodingWarning" in line]
    assert not [line for line in warned if "src/forethought/" in line]
    assert "→" in Path("run→/.hydra/config.yaml").read_text(encoding="utf-8")


LOUD = """
import logging
from lightning.pytorch import Callback

class Loud(Callback):
    def on_train_start(self, *_):
        logging.getLogger(__name__).info("info of %s", __name__)
        logging.getLogger(__name__).warning("warning of %s", __name__)
"""


def test_remarks_of_libraries_stay_out_of_the_log(workplace, monkeypatch):
    Path("site-packages").mkdir()
    Path("site-packages/library.py").write_text(LOUD)
    Path("mine.py").write_text(LOUD)
    monkeypatch.syspath_prepend(".")
    monkeypatch.syspath_prepend("site-packages")
    callbacks = [f"callbacks.{name}._target_={name}.Loud" for name in ("library", "mine")]
    assert run(["train", *TINY, "hydra.run.dir=run", *callbacks]) == 0
    log = Path("run/run.log").read_text()
    for text, count in {
        "info of library": 0,
        "info of mine": 1,
        "warning of library": 1,
        "step 20": 1,
    }.items():
        assert log.count(text) == count, text


BROKEN = {
    "tab": ("task", "degree: 3\n\tpath_length: 4\n", 2),
    "bracket": ("task", "# a\nx: [1,2\n", 2),
    "quote": ("experiment", "# @package _global_\nsweep: 'a\n", 2),
    "colon": ("model", "a: b: c\n", 1),
    "twice": ("optimizer", "a: 1\nb: 2\na: 3\n", 3),
    "list": ("task", "# a\n- 1\n", 2),
    "alias": ("task", "a: *nothing\n", 1),
    "code": ("task", "a: !!python/object:os.system 1\n", 1),
    "encoded": ("task", b"# a\n# \xe9\na: 1\n", 2),
    "binary": ("task", b"a: 1\n\0\n", 2),
    "interpolation": ("task", "_target_: a.b\ndegree: ${a\n", 2),
    "number": ("task", "a: 1\n3: 4\n", 2),
    "scalar": ("objective", "42\n", 1),
    "nothing": ("objective", "null\n", 1),
    "text": ("model", "just words\n", 1),
    "list of optimizers": ("optimizer", "- _target_: a.b\n", 1),
    "list of callbacks": ("callbacks", "- _target_: a.b\n", 1),
    "list of launchers": ("hydra/launcher", "- _target_: a.b\n", 1),
    "scalar as sweeper": ("hydra/sweeper", "3\n", 1),
    "list of keys": ("experiment", "- seed: 3\n", 1),
    "indentation": ("experiment", "# @package _global_\ndefaults:\n  - x\n - y\n", 4),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("way", ["--config-dir=my_conf", "hydra.searchpath=[my_conf]"])
@pytest.mark.slow
def test_a_broken_yaml_file_is_one_line_with_its_name_and_line(workplace, capsys, name, way):
    group, content, line = BROKEN[name]
    name = name.replace(" ", "_")
    path = Path("my_conf", group, f"{name}.yaml")
    path.parent.mkdir(parents=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert run(["train", *["-m"] * ("hydra" in group), way, f"{group}={name}"]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert f"{path}: line {line}: " in said or said.partition(";")[0].endswith(f"from line {line})"), said


@pytest.mark.parametrize("content", ["", "# nothing yet\n", "{}\n", "lr: 3\n"])
@pytest.mark.parametrize(
    "group",
    ["task", "model", "objective", "optimizer", "hardware", "logger", "hydra/launcher", "hydra/sweeper"],
)
@pytest.mark.slow
def test_a_choice_that_names_no_class_is_one_line_with_its_file(workplace, capsys, group, content):
    path = Path("my_conf", group, "mine.yaml")
    path.parent.mkdir(parents=True)
    path.write_text(content)
    assert run(["train", *["-m"] * ("hydra" in group), "--config-dir=my_conf", f"{group}=mine"]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said == f"forethought: {path}: expected a mapping with _target_: package.module.Class"


def test_callbacks_without_names_are_one_line_with_their_file(workplace, capsys):
    Path("my_conf/callbacks").mkdir(parents=True)
    Path("my_conf/callbacks/mine.yaml").write_text("_target_: lightning.pytorch.callbacks.Timer\n")
    assert run(["train", "--config-dir=my_conf", "callbacks=mine"]) == 2
    assert "my_conf/callbacks/mine.yaml: expected a mapping with NAME: {_target_: " in capsys.readouterr().err
