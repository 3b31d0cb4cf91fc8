"""Where a sweep stands: quickly, without torch, with the time that is left."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from helpers import TINY

from forethought.cli.main import run
from forethought.results import read_json, write_curves
from forethought.sweeps import CellStatus, add_to_grid, begin_session, lock, seconds_left, sweep_status


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """What a finished cell leaves in results.json and metrics.csv."""
    folder = tmp_path_factory.mktemp("run")
    assert run(["train", *TINY, "task.path_length=10", "task.num_nodes=19", f"hydra.run.dir={folder}"]) == 0
    return (folder / "results.json").read_text(), (folder / "metrics.csv").read_text()


def leave(folder, files, **changed):
    results, curves = files
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps({**json.loads(results), **changed}))
    (folder / "metrics.csv").write_text(curves)


def sweep_of(names):
    add_to_grid(Path("s"), {name: [] for name in names})
    return Path("s")


def begun(folder, seconds_ago, first_step, last_step, curve):
    """As of a run that has reached the last step of its curve just now."""
    folder.mkdir(parents=True, exist_ok=True)
    begin_session(folder, first_step, last_step)
    session = read_json(folder / ".session.json")
    (folder / ".session.json").write_text(json.dumps({**session, "began": time.time() - seconds_ago}))
    write_curves(folder / "metrics.csv", [{"step": step} for step in curve])


def test_a_thousand_cells_in_under_a_second(workplace, finished):
    """The process from its start, on results of 20 positions; the best of three for the sake of others."""
    sweep = sweep_of(f"cell-{index}" for index in range(1000))
    for index in range(900):
        leave(sweep / f"cell-{index}", finished)
    for index in range(900, 950):
        begun(sweep / f"cell-{index}", 10, 0, 1000, range(0, 100, 10))
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


def test_time_left_of_a_run_and_of_its_sweep(workplace, finished, capsys):
    sweep = sweep_of(["done", "bad", "early", "late", "next"])
    leave(sweep / "done", finished, wall_seconds=30.0)
    leave(sweep / "bad", finished, status="failed", reason="ValueError: no luck")
    begun(sweep / "early", 100, 0, 1000, [100, 200])  # 2 steps/s: 400 s left
    begun(sweep / "late", 100, 500, 1000, [500, 900])  # resumed at 500; 4 steps/s: 25 s left
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
    assert run(["status", "s"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("2 interrupted, 1 waiting")


def test_nothing_is_said_of_a_run_that_has_no_pace_yet(workplace):
    sweep = sweep_of(["resumed", "new"])
    begun(sweep / "resumed", 100, 500, 1000, [400, 500])
    (sweep / "new").mkdir()
    with lock(sweep / "resumed"), lock(sweep / "new"):
        resumed, new = sweep_status(sweep)
    assert (resumed.state, resumed.detail, resumed.seconds) == ("running", "step 500 of 1000", None)
    assert (new.state, new.detail) == ("running", "no evaluation yet")


def test_time_left_of_a_sweep_needs_something_to_go_by():
    done, waiting = CellStatus("a", "finished", "", 60.0), CellStatus("b", "waiting", "")
    slow, quick = CellStatus("c", "running", "", 100.0), CellStatus("d", "running", "", 20.0)
    begun = CellStatus("e", "running", "")
    assert seconds_left([done, waiting]) is None  # nobody is at it
    assert seconds_left([slow, waiting]) is None  # none has finished yet
    assert seconds_left([begun]) is None
    assert seconds_left([slow, quick]) == 100
    assert seconds_left([done, begun]) == 60
    assert seconds_left([done, slow, quick, waiting, waiting]) == (100 + 20 + 2 * 60) / 2


def test_watching_ends_when_all_is_done(workplace, finished, capsys):
    sweep = sweep_of(["a", "b"])
    leave(sweep / "a", finished)
    timer = threading.Timer(1, leave, (sweep / "b", finished))
    timer.start()
    assert run(["status", "s", "--watch"]) == 0
    timer.join()
    assert capsys.readouterr().out.splitlines()[0] == "2 cells: 2 finished"


def test_watching_a_terminal_ends_with_ctrl_c(workplace):
    """In a pseudo-terminal of a few lines: what runs is shown, though most cells do not fit."""
    sweep = sweep_of([*(f"cell-{index}" for index in range(100)), "busy"])
    begun(sweep / "busy", 100, 0, 1000, [200])
    ours, theirs = os.openpty()
    with lock(sweep / "busy"):
        process = subprocess.Popen(
            [sys.executable, "-m", "forethought", "status", "s", "--watch"],
            stdout=theirs,
            stderr=subprocess.PIPE,
            start_new_session=True,
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


@pytest.mark.parametrize("words", ["--watch", "s --what", "s --watch --json"])
def test_wrong_words(workplace, capsys, words):
    sweep_of(["a"])
    assert run(["status", *words.split()]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
