"""The pool: bounded, isolated, and robust against what happens inside a process."""

import functools
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import TINY, heeds_ctrl_c
from jobs import die, flood, remember, speak, use_streams, write

from forethought.cli.main import run
from forethought.processes import run_processes
from forethought.sweeps import sweep_status

# The server of the pool imports this module once; without it every job would import torch.
run_jobs = functools.partial(run_processes, preload=["forethought.launchers.work", "jobs"])


@pytest.mark.slow
def test_never_more_processes_than_slots_and_each_has_its_own(tmp_path):
    jobs = [functools.partial(write, tmp_path, index, 0.3) for index in range(6)]
    ended = run_jobs(jobs, [{"SLOT": "a"}, {"SLOT": "b"}])
    assert [each.exit_code for each in ended] == [0] * 6
    spans = [(tmp_path / str(index)).read_text().split() for index in range(6)]
    for begun, *_ in spans:
        at_once = [slot for first, last, slot, _ in spans if float(first) <= float(begun) < float(last)]
        assert len(at_once) <= 2
        assert len(set(at_once)) == len(at_once), "a slot serves one job at a time"
    assert len({process for *_, process in spans}) == 6


@pytest.mark.slow
def test_the_server_lives_on_when_it_gets_ctrl_c_while_it_imports(workplace):
    """In a process of its own, as a process has one server."""
    Path("takes_long.py").write_text("import pathlib, time\npathlib.Path('begun').touch()\ntime.sleep(1)\n")
    Path("script.py").write_text(
        "import functools, jobs, os, pathlib, signal, time\n"
        "from forethought.processes import run_processes, start_server\n"
        "start_server(['takes_long'])\n"
        "while not pathlib.Path('begun').exists(): time.sleep(0.01)\n"
        "signal.signal(signal.SIGINT, lambda *_: None)\n"
        "os.killpg(0, signal.SIGINT)\n"
        "stopped = run_processes([functools.partial(jobs.die, signal.SIGINT)], [{}])\n"
        "print(run_processes([functools.partial(jobs.write, '.', 0)], [{}]), *stopped)\n"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([".", *sys.path])}
    done = subprocess.run(
        [sys.executable, "script.py"],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
        preexec_fn=heeds_ctrl_c,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "[ProcessEnd(exit_code=0)] its process ended with exit code 130\n"


@pytest.mark.slow
def test_a_killed_job_costs_only_itself(tmp_path):
    jobs = [
        functools.partial(write, tmp_path, 0, 0.2),
        functools.partial(die, signal.SIGKILL),
        functools.partial(die, signal.SIGTERM),
        functools.partial(write, tmp_path, 3, code=7),
        functools.partial(write, tmp_path, 4),
    ]
    ended = run_jobs(jobs, [{}, {}])
    assert [each.exit_code for each in ended] == [0, -signal.SIGKILL, -signal.SIGTERM, 7, 0]
    assert "SIGKILL: out of memory" in str(ended[1])
    assert str(ended[3]) == "its process ended with exit code 7"


def test_stops_after_so_many_failures(tmp_path):
    jobs = [functools.partial(write, tmp_path, index, code=index % 2) for index in range(8)]
    ended = run_jobs(jobs, [{}], stop_after=2)
    assert [each.exit_code for each in ended] == [0, 1, 0, 1, None, None, None, None]
    assert str(ended[-1]) == "not started"


def test_lines_of_two_jobs_never_mix():
    lines = []
    run_jobs([functools.partial(speak, index) for index in range(4)], [{}, {}], print_line=lines.append)
    assert sorted(lines) == [f"job {index} says one line " for index in range(4)]


def test_the_streams_of_a_job_are_real_ones():
    lines = []
    (end,) = run_jobs([use_streams], [{}], print_line=lines.append)
    assert end.exit_code == 0, lines
    assert lines == ["é as bytes"] * 3 + [
        "of a child",
        "of its shell",
        "of C",
        "α and \\udc80",
        "without an end",
    ]


def test_a_job_may_print_much():
    lines = []
    run_jobs([functools.partial(flood, 20_000)], [{}], print_line=lines.append)
    assert lines == ["x" * 100] * 20_000


def test_no_state_is_left_for_the_next_job():
    assert [each.exit_code for each in run_jobs([remember] * 3, [{}])] == [0, 0, 0]


def test_whatever_happens_to_a_cell_the_others_finish(faulty, capsys):
    """Killed (as by the kernel when memory is short), an exception, no memory, a loss that is no number."""
    words = ["train", "-m", "sweep=s", *faulty]
    assert run([*words, "objective.fault=killed,raises,memory,infinite,none", "seed=0"]) == 1
    out = capsys.readouterr().out
    assert [f"[{k}/5]" in out for k in range(1, 6)] == [True] * 5
    last = out[out.index("1 of 5 cells finished") :]
    cells = {cell.name.split("-")[5]: cell for cell in sweep_status(Path("multirun/s"))}
    for fault, reason in {
        "killed": "its process was killed by SIGKILL: out of memory",
        "raises": "ValueError: no luck",
        "memory": "RuntimeError",
        "infinite": "FloatingPointError: the training loss became",
    }.items():
        cell = cells.pop(fault)
        assert cell.state == "failed"
        assert cell.detail.startswith(reason)
        assert f"{cell.name}: {cell.detail}" in last
        assert fault != "memory" or "can't allocate memory" in cell.detail
        assert "\n" not in cell.detail
    assert [cell.state for cell in cells.values()] == ["finished"]
    run([*words, "objective.fault=killed,none", "seed=0"])
    assert "2 cells, 1 finished before, 1 to run" in capsys.readouterr().out


def test_a_sweep_can_be_told_to_stop_after_failures(faulty):
    options = ["hydra.launcher.workers=1", "hydra.launcher.stop_after=1"]
    assert run(["train", "-m", "sweep=s", *faulty, "objective.fault=raises", "seed=range(4)", *options]) == 1
    states = [cell.state for cell in sweep_status(Path("multirun/s"))]
    assert states == ["failed"] + ["waiting"] * 3


@pytest.mark.slow
def test_a_script_without_a_main_guard(workplace):
    """The processes of a pool do not import the script, which would start a sweep in each of them."""
    words = ["train", "-m", *TINY, "sweep=s", "seed=0,1", "hydra.launcher.workers=2"]
    Path("script.py").write_text(
        f"from forethought.cli.main import run\nprint('begun')\nassert run({words}) == 0\n"
    )
    done = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True, check=True)
    assert done.stdout.count("begun") == 1
    assert "2 of 2 cells finished" in done.stdout
