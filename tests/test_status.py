"""The state of a sweep: quickly, without torch, with the time left."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from helpers import heeds_ctrl_c
from reports import CURVES, make_run

from forethought.cli.main import run
from forethought.results import Stretch, add_stretch, write_curves
from forethought.sweeps import (
    CELL_FILE,
    Cell,
    CellStatus,
    add_to_grid,
    lock,
    sweep_seconds_left,
    sweep_status,
)

S = Path("s")


def leave(folder, **changed):
    """Write what a finished cell leaves in results.json and metrics.csv."""
    results = make_run("solved").model_copy(update=changed)
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(results.model_dump_json())
    write_curves(folder / "metrics.csv", CURVES)


def sweep_of(names):
    add_to_grid(S, [Cell(name, "s", {}, [], [], {}, S / name) for name in names])
    return S


def begin(folder, seconds_ago, first_step, last_step, curve):
    """Write what a run leaves that has reached the last step of its curve just now."""
    folder.mkdir(parents=True, exist_ok=True)
    stretch = {"first_step": first_step, "last_step": last_step, "began": time.time() - seconds_ago}
    add_stretch(folder, Stretch(**stretch, date="", host="", cpu="", device="", instructions="", versions={}))
    write_curves(folder / "metrics.csv", [{"step": step} for step in curve])


@pytest.mark.slow
def test_a_thousand_cells_in_under_a_second(workplace):
    """The process from its start, on results of 20 positions; the best of three for the sake of others."""
    sweep = sweep_of(f"cell-{index}" for index in range(1000))
    for index in range(900):
        leave(sweep / f"cell-{index}")
    for index in range(900, 950):
        begin(sweep / f"cell-{index}", 10, 0, 1000, range(0, 100, 10))
    code = "from forethought.cli.main import run; run(['status', 's'])\n"
    code += "import sys; print('torch' in sys.modules)"

    def seconds():
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        *_, counts, torch = done.stdout.splitlines()
        assert counts == "1000 cells: 900 finished, 50 interrupted, 50 waiting"
        assert torch == "False"
        return time.perf_counter() - start

    assert min(seconds() for _ in range(3)) < 1


def test_time_left_of_a_run_and_of_its_sweep(workplace, capsys):
    """And of a single run."""
    sweep = sweep_of(["done", "bad", "early", "late", "next"])
    leave(sweep / "done", wall_seconds=30.0)
    leave(sweep / "bad", status="failed", reason="ValueError: no luck")
    begin(sweep / "early", 100, 0, 1000, [100, 200])  # 2 steps/s: 400 s left
    begin(sweep / "late", 100, 500, 1000, [500, 900])  # resumed at 500; 4 steps/s: 25 s left
    with lock(sweep / "early"), lock(sweep / "late"):
        assert run(["status", "s"]) == 0
        out = capsys.readouterr().out.splitlines()
        # The sweep: 400 + 25 + 30 for the one that waits, by two at a time, but 400 for the longest alone.
        assert out[-1] == "5 cells: 1 finished, 1 failed, 2 running, 1 waiting, about 7 min left"
        states = {cell.name: cell for cell in sweep_status(sweep)}
        assert states["early"].seconds == pytest.approx(400, abs=5)
        assert states["early"].detail == "step 200 of 1000, 7 min left"
        assert states["late"].seconds == pytest.approx(25, abs=5)
        assert states["bad"].detail == "ValueError: no luck"
        assert run(["status", "s", "--json"]) == 0
        told = {cell["name"]: cell for cell in json.loads(capsys.readouterr().out)}
        assert told["done"]["seconds"] == 30.0
        assert told["late"]["state"] == "running"
        cell_file = sweep / "early" / CELL_FILE
        cell_file.parent.mkdir()
        cell_file.write_text("{}")
        assert run(["status", "s/early"]) == 0
        out = capsys.readouterr().out.splitlines()
        assert out == [
            "running      early  step 200 of 1000, 7 min left",
            "1 cells: 1 running, about 7 min left",
        ]
    assert run(["status", "s"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("2 interrupted, 1 waiting")
    assert run(["status", "s/done"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1 cells: 1 finished"
    assert run(["status", "s/next"]) == 2


def test_nothing_is_said_of_a_run_that_has_no_pace_yet(workplace):
    sweep = sweep_of(["resumed", "new"])
    begin(sweep / "resumed", 100, 500, 1000, [400, 500])
    (sweep / "new").mkdir()
    with lock(sweep / "resumed"), lock(sweep / "new"):
        resumed, new = sweep_status(sweep)
    assert (resumed.state, resumed.detail, resumed.seconds) == ("running", "step 500 of 1000", None)
    assert (new.state, new.detail) == ("running", "no evaluation yet")


def test_time_left_of_a_sweep_needs_something_to_go_by():
    done, waiting = CellStatus("a", "finished", "", 60.0), CellStatus("b", "waiting", "")
    slow, quick = CellStatus("c", "running", "", 100.0), CellStatus("d", "running", "", 20.0)
    begun = CellStatus("e", "running", "")
    assert sweep_seconds_left([done, waiting]) is None  # nobody is at it
    assert sweep_seconds_left([slow, waiting]) is None  # none has finished yet
    assert sweep_seconds_left([begun]) is None
    assert sweep_seconds_left([slow, quick]) == 100
    assert sweep_seconds_left([done, begun]) == 60
    assert sweep_seconds_left([done, slow, quick, waiting, waiting]) == (100 + 20 + 2 * 60) / 2


@pytest.mark.slow
def test_watching_ends_when_all_is_done(workplace, capsys):
    sweep = sweep_of(["a", "b"])
    leave(sweep / "a")
    timer = threading.Timer(1, leave, (sweep / "b",))
    timer.start()
    assert run(["status", "s", "--watch"]) == 0
    timer.join()
    assert capsys.readouterr().out.splitlines()[0] == "2 cells: 2 finished"


@pytest.mark.slow
def test_watching_a_terminal_ends_with_ctrl_c(workplace):
    """In a pseudo-terminal of a few lines: what runs is shown, though most cells do not fit."""
    sweep = sweep_of([*(f"cell-{index}" for index in range(100)), "busy"])
    begin(sweep / "busy", 100, 0, 1000, [200])
    ours, theirs = os.openpty()
    with lock(sweep / "busy"):
        process = subprocess.Popen(
            [sys.executable, "-m", "forethought", "status", "s", "--watch"],
            stdout=theirs,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=heeds_ctrl_c,
            env={**os.environ, "TERM": "xterm", "LINES": "10", "COLUMNS": "90"},
        )
        os.close(theirs)
        shown = b""
        while shown.count(b"101 cells") < 2:
            shown += os.read(ours, 10000)
        process.send_signal(2)
        with contextlib.suppress(OSError):  # the other end is closed
            while os.read(ours, 10000):  # the whole table, too much for a terminal that nobody reads
                pass
        assert process.wait(30) == 0, process.stderr.read()
    assert b"busy     step 200 of 1000, 7 min left" in shown
    assert b"cell-50" not in shown


def test_a_file_server_whose_clock_is_ahead(workplace):
    sweep = sweep_of(["cell"])
    begin(sweep / "cell", 100, 0, 1000, [100, 200])  # 2 steps/s: 400 s left
    ahead = time.time() + 3600
    os.utime(sweep / "cell" / "metrics.csv", (ahead, ahead))
    with lock(sweep / "cell"):
        (cell,) = sweep_status(sweep)
    assert 380 < cell.seconds < 420
