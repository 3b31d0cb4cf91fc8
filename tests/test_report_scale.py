"""Report on a sweep of 1,000 cells."""

import csv
import time
from itertools import product
from pathlib import Path

import matplotlib.image
import pytest
from reports import make_run

from forethought.cli.main import run as command
from forethought.results import write_atomically, write_curves

OBJECTIVES = ("next_token", "teacherless", "token_order", "belief_state")
MAX_STEPS, EVAL_EVERY, LOG_EVERY = 10_000, 250, 50


def is_solved(objective: str, degree: int, length: int, seed: int) -> bool:
    """Later objectives solve more graphs. Harder graphs are solved with fewer seeds."""
    return seed < 6 * OBJECTIVES.index(objective) - 2 * (degree + length - 8)


def make_curve(solved: bool, degree: int, length: int, steps: int) -> list[dict[str, float]]:
    """Return a row every 50 steps: a plateau at 1/d, then a jump if the run solves the task."""
    rows = []
    for step in range(LOG_EVERY, steps + 1, LOG_EVERY):
        row = {"step": float(step), "train/loss": 2 / step}
        if step % EVAL_EVERY == 0:
            accuracy = 1.0 if solved and step > steps - 500 else min(1.0, step / 1000) / degree
            row |= {"val/accuracy": accuracy, "val/decision_accuracy": accuracy, "train/lr": 1e-3}
            row |= {f"val/token_accuracy_{i}": accuracy for i in range(1, length + 1)}
            row |= {f"val/forced_token_accuracy_{i}": 0.99 for i in range(1, length + 1)}
        rows.append(row)
    return rows


def save_thousand_cells(folder: Path) -> None:
    for objective, degree, length, seed in product(OBJECTIVES, range(2, 7), range(3, 8), range(10)):
        solved = is_solved(objective, degree, length, seed)
        steps = 2000 + 250 * seed if solved else MAX_STEPS
        columns = 3 * degree * (length - 1) + 3 + length
        run = make_run(
            "solved" if solved else "shortcut",
            seed,
            objective,
            {"task.degree": degree, "task.path_length": length},
            steps=steps,
            steps_to_solve=steps if solved else None,
            grad_flow=[[1.0] * columns] * length,
        )
        cell = folder / run.cell
        cell.mkdir(parents=True)
        write_curves(cell / "metrics.csv", make_curve(solved, degree, length, steps))
        write_atomically(cell / "results.json", run.model_dump_json())


@pytest.mark.slow
def test_a_thousand_cells(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.fsync", lambda file: None)  # 2,000 calls take minutes on a busy disk.
    save_thousand_cells(tmp_path)
    began = time.process_time()
    assert command(["report", str(tmp_path)]) == 0
    # Measure CPU time, so that other processes do not count.
    assert time.process_time() - began < 20

    with open(tmp_path / "report" / "cells.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 1000
    with open(tmp_path / "report" / "groups.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 100
    for image in (tmp_path / "report" / "plots").glob("*.png"):
        height, width, _ = matplotlib.image.imread(image).shape
        assert width == 1200
        assert height < 4500, image  # 19 inches at 240 dpi, four times the width
    out = capsys.readouterr().out
    # The table merges each objective into one row, and compares it with next_token over 250 pairs.
    for name in OBJECTIVES:
        count = sum(is_solved(name, *cell) for cell in product(range(2, 7), range(3, 8), range(10)))
        assert f"{count} of 250" in next(line for line in out.splitlines() if line.strip().startswith(name))
    assert out.count(" 250 ") >= 3
    assert len(out.splitlines()) < 50
