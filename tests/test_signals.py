"""Signals that announce the end: a checkpoint at the next step, the cell interrupted, an exact resume."""

import os
import signal
from pathlib import Path

import pytest
from helpers import (
    TINY,
    at_work,
    fault,
    last_checkpoint,
    left_over,
    outcome,
    started,
    states_once_settled,
)

from forethought.cli.main import run
from forethought.results import read_results
from forethought.sweeps import SIGNALS, Stopped, defer_signals, raise_on_signal


def last_step(folder):
    return last_checkpoint(folder)["global_step"]


@pytest.fixture
def slow(faulty):
    """Command-line words for an objective whose steps can be hit."""
    return ["train", *faulty, "objective.fault=slow", "objective.at=6", "max_steps=200", "eval_every=200"]


@pytest.fixture(autouse=True)
def a_terminal():
    """As if the tests did not run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def test_the_first_signal_stops_and_the_next_ones_wait():
    with raise_on_signal():
        with pytest.raises(Stopped, match="SIGUSR1"):
            signal.raise_signal(signal.SIGUSR1)
        for sign in SIGNALS:
            signal.raise_signal(sign)
    assert all(signal.getsignal(sign) == signal.SIG_DFL for sign in SIGNALS)


def test_nohup_is_respected():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for block in (raise_on_signal(), defer_signals()):
        with block:
            signal.raise_signal(signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_deferred_signals_go_afterwards_to_whom_they_were_for():
    heard = []
    before = signal.signal(signal.SIGUSR2, lambda number, frame: heard.append(number))
    try:
        with defer_signals():
            signal.raise_signal(signal.SIGUSR2)
            assert heard == []
        assert heard == [signal.SIGUSR2]
        with defer_signals():
            pass
        assert heard == [signal.SIGUSR2]
    finally:
        signal.signal(signal.SIGUSR2, before)


@pytest.mark.parametrize(("sign", "step"), [*zip(SIGNALS, (1, 7, 10, 13), strict=True)])
def test_a_signal_costs_no_step(workplace, sign, step):
    assert run(["train", *TINY, fault(step, sign.name), "hydra.run.dir=run"]) == 128 + sign
    results = read_results(Path("run"))
    assert (results.status, results.reason) == ("interrupted", f"stopped by {sign.name}")
    assert last_step("run") == step


@pytest.mark.slow
def test_a_process_that_gets_sigterm_goes_on_later(slow, monkeypatch):
    """As Slurm sends it, at a moment that nobody chose and far from an evaluation."""
    process = started(*slow, "hydra.run.dir=run")
    at_work(process)
    process.terminate()
    _, error = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert b"the same command resumes" in error
    assert b"Traceback" not in error
    assert read_results(Path("run")).status == "interrupted"
    assert 5 < last_step("run") < 200
    monkeypatch.setenv("HURRY", "")
    monkeypatch.syspath_prepend(".")
    assert run(["resume", "run"]) == 0
    assert run([*slow, "hydra.run.dir=calm"]) == 0
    assert outcome("run") == outcome("calm")


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_cells_end_with_their_sweep(slow, sign):
    """Ctrl-C goes to all of its processes, the other signals go to the first alone, as `kill` sends them."""
    process = started(*slow, "-m", "seed=0,1,2", "sweep=s", "hydra.launcher.workers=2")
    at_work(process, 2)
    os.killpg(process.pid, sign) if sign == signal.SIGINT else process.send_signal(sign)
    _, error = process.communicate(timeout=60)
    assert process.returncode == (-sign if sign == signal.SIGKILL else 128 + sign)
    assert sorted(states_once_settled(Path("multirun/s"))) == ["interrupted"] * 2 + ["waiting"]
    if sign == signal.SIGKILL:
        return
    assert b"the same command resumes" in error
    assert b"Traceback" not in error
    folders = [path.parent for path in Path("multirun/s").glob("*/results.json")]
    assert len(folders) == 2
    reasons = {read_results(folder).reason for folder in folders}
    if sign == signal.SIGINT:  # a cell hears of it from the terminal or from the pool
        assert reasons <= {"stopped by Ctrl-C", "stopped by SIGTERM"}
    else:
        assert reasons == {"stopped by SIGTERM"}
        assert all(last_step(folder) > 5 for folder in folders)


@pytest.mark.slow
def test_a_signal_stops_both_processes_of_a_run_at_one_step(slow, main_port):
    """DDP over gloo: the first process hears of it and tells the others."""
    process = started(*slow, "hydra.run.dir=run", "hardware=cpu", "hardware.devices=2", "batch_size=16")
    at_work(process, 2)
    said = [path.read_text().partition(", ") for path in Path().glob("at-work-*")]
    assert [rows for rows, _, _ in said] == ["8 rows"] * 2
    assert len({noise for _, _, noise in said}) == 2
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert read_results(Path("run")).status == "interrupted"
    assert 5 < last_step("run") < 200
    assert left_over(process.pid) == []
