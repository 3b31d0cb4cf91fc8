"""Reports and DataFrames from CSV files of runs, in the place of folders."""

from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure
from reports import make_failed, make_run, save_runs

from forethought import load_sweep
from forethought.cli.main import run
from forethought.errors import InputError
from forethought.report import build_sweep
from forethought.report.tables import format_csv
from forethought.results import Stretch
from forethought.results.columns import OBJECTS

RESULTS = Path(__file__).parents[1] / "docs" / "results"
STRETCH = {"first_step": 0, "last_step": 9, "began": 0.0, "date": "2026-11-25T10:00:00", "host": "h"}
STRETCH |= {"cpu": "c", "device": "cpu", "instructions": "AVX2", "versions": {}, "commit": "1234567"}
RUNS = [
    make_run(stretches=[Stretch(**STRETCH, dirty=False)]),
    make_run("solved", 1, "teacherless", {"task.degree": 3, "task.sizes": [1, 2], "task.label": "6"}),
    make_run("partial", 1, "teacherless", {"task.degree": 3, "task.reverse": True}, ["task.reverse=true"]),
    make_failed(),
]


def write_cells(path: Path, frame: pd.DataFrame) -> Path:
    path.write_text(format_csv(frame))
    return path


def test_a_frame_from_cells_csv_is_that_of_the_folder(tmp_path: Path) -> None:
    frame = load_sweep(save_runs(tmp_path, RUNS))
    copy = load_sweep(write_cells(tmp_path / "cells.csv", build_sweep(frame).runs))
    assert list(copy) == list(frame)
    assert copy["folder"].isna().all()
    assert copy["examples"].tolist() == [[]] * 4
    assert copy["probes"].isna().all()
    compared = [name for name in frame if name not in {*OBJECTS, "folder", "task.label"}]
    by_cell = [table.sort_values("cell", ignore_index=True)[compared] for table in (copy, frame)]
    # Columns without any value have no type of their own.
    pd.testing.assert_frame_equal(*(table.dropna(axis=1, how="all") for table in by_cell))
    assert copy["commit"].dropna().tolist() == ["1234567"]
    assert load_sweep(tmp_path / "cells.csv", curves=True).empty


def test_files_and_folders_share_a_frame(tmp_path: Path) -> None:
    folder = save_runs(tmp_path / "sweep", RUNS)
    first = write_cells(tmp_path / "first.csv", load_sweep(folder).iloc[:2])
    second = write_cells(tmp_path / "second.csv", load_sweep(folder).iloc[2:])
    assert load_sweep(first, second, first)["sweep"].tolist() == ["demo"] * 4
    both = load_sweep(folder, first)  # the same cells again, measured elsewhere or before
    assert both["sweep"].tolist() == ["demo"] * 4 + [str(first)] * 2
    assert build_sweep(both).keys[0] == "sweep"


def test_some_columns_are_enough(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_bytes(
        "\ufeffcell,status,objective,seed,task.degree,verdict,test/accuracy\r\n"
        "a,finished,next_token,0,2,shortcut,.5\r\nb,finished,next_token,0,3,shortcut,\r\n".encode()
    )
    frame = load_sweep(path)
    assert frame["test/accuracy"].tolist()[0] == 0.5
    assert frame[["steps_to_solve", "parameters"]].dtypes.tolist() == [float, float]
    sweep = build_sweep(frame)
    assert sweep.keys == ["task.degree"]
    assert sweep.summary["shortcut"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("cell,seed,overrides\na,0,\n", "column status is missing"),
        ("", "column cell is missing"),
        ("cell,status,verdict,seed\na,finished,solved\n", "row 1 has too few or too many fields"),
        ("cell,status,verdict,seed\na,finished,solved,0,1\n", "row 1 has too few or too many fields"),
        ("cell,status,verdict,seed\na,done,solved,0\n", "status=done: .*expected one of finished"),
        ("cell,status,verdict,seed\na,finished,good,0\n", "verdict=good: .*expected one of solved"),
        ("cell,status,verdict,seed\na,finished,solved,x\n", "seed=x: expected an integer"),
        ("cell,status,verdict,seed,steps\na,finished,solved,0,x\n", "steps=x: expected a number"),
        ("cell,status,verdict,seed,test/a\na,finished,solved,0,inf\n", "test/a=inf: expected a number"),
        ("cell,status,verdict,seed\n" + 2 * "a,finished,solved,0\n", "row 2, cell=a: a second row"),
        ('cell,status,verdict,seed\na,"finished"x,solved,0\n', "corrupt, not CSV"),
        ("cell\xff", "corrupt, not CSV"),
    ],
)
def test_other_files_are_an_input_error(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "runs.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=rf"runs\.csv: .*{complaint}"):
        load_sweep(path)


def test_a_missing_file_and_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no\.csv: No such file"):
        load_sweep(tmp_path / "no.csv")
    (tmp_path / "empty.csv").write_text("cell,status,verdict,seed\n")
    with pytest.raises(InputError, match="no runs; pass"):
        build_sweep(load_sweep(tmp_path / "empty.csv"))


def test_report_of_a_committed_file(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(Figure, "savefig", lambda *_, **__: None)
    monkeypatch.chdir(tmp_path)
    assert run(["report", str(RESULTS / "g24_prefix.csv"), "--out", "out"]) == 0
    assert "teacherless" in capsys.readouterr().out
    page = Path("out/report.html").read_text()
    assert "5 of 5" in page
    assert (Path("out") / "plots" / "survival.png").exists()
    assert not (Path("out") / "plots" / "learning.png").exists()  # the file has no curves
    assert run(["report", str(RESULTS / "g24_prefix.csv")]) == 2
    assert "requires --out" in capsys.readouterr().err


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.csv")), ids=lambda path: path.stem)
def test_committed_files_are_files_of_runs(path: Path) -> None:
    """`*_decodings.csv` has one row an evaluation: a run occurs several times, and has no verdict."""
    if path.stem.endswith("_decodings"):
        with pytest.raises(InputError, match="not a file of runs, column status is missing"):
            load_sweep(path)
    else:
        sweep = build_sweep(load_sweep(path))
        assert not {"task.graph_seed", "experiment"} & {*sweep.keys}
        assert not sweep.runs.duplicated(["setting", "seed"]).any()
