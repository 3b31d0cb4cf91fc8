"""Output that cannot be printed: a terminal that goes away, a full disk, a closed stream."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import TINY

from forethought.results import read_results

COMMAND = [sys.executable, "-m", "forethought"]
RUN = [*COMMAND, "train", *TINY, "hydra.run.dir=run"]
SWEEP = [*COMMAND, "train", "-m", *TINY, "sweep=s", "seed=0,1", "hydra.launcher.workers=1"]


def in_shell(words, redirection):
    command = ["sh", "-c", f'exec "$@" {redirection}', "sh", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def check_log():
    log = Path("run/run.log").read_text()
    assert "step 20 of 20" in log
    assert "Traceback" not in log
    assert read_results(Path("run")).status == "finished"


@pytest.mark.slow
def test_a_full_disk_behind_the_output_ends_no_run(workplace):
    """One line says what was lost. The exit code is that of the run, and of other commands 1."""
    done = in_shell(RUN, ">/dev/full")
    assert done.returncode == 0
    assert done.stderr.splitlines() == [
        "forethought: standard output: No space left on device; what was printed is incomplete"
    ]
    check_log()
    done = in_shell([*COMMAND, "status", "run"], ">/dev/full")
    assert (done.returncode, "No space left" in done.stderr) == (1, True)
    assert in_shell([*COMMAND, "status", "nowhere"], "2>/dev/full").returncode == 2


@pytest.mark.slow
@pytest.mark.parametrize("redirection", [">&-", "<&- >&- 2>&-"])
def test_a_closed_stream_ends_no_run(workplace, redirection):
    """Nor does what is printed get into the next file that is opened."""
    done = in_shell(RUN, redirection)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    check_log()
    assert "parameters on" not in Path("run/metrics.csv").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("redirection", [">/dev/full 2>&1", ">&-", "<&- >&- 2>&-"])
def test_a_sweep_goes_on_without_output(workplace, redirection):
    assert in_shell(SWEEP, redirection).returncode == 0
    assert [read_results(path.parent).status for path in Path("multirun/s").glob("*/results.json")] == [
        "finished"
    ] * 2


@pytest.mark.slow
def test_a_terminal_that_goes_away_ends_no_run(workplace):
    """As of a run after `disown`: the bar has nowhere to be drawn."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(RUN, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    assert os.read(ours, 1)
    os.close(ours)
    assert process.wait() == 0
    check_log()


@pytest.mark.slow
def test_a_terminal_gets_what_it_can_show(workplace, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    assert "1 \\xd7 cpu" in in_shell(RUN, "").stdout
    check_log()
