"""The command line: quick, Hydra's flags as Hydra means them, and one line for every mistake."""

import os
import subprocess
import sys
import time

import pytest
from helpers import CONF

from forethought.cli.main import run


def in_new_process(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "words", ["['--help']", "['status', 'nowhere']", "['report', 'nowhere']", "['nothing']"]
)
def test_no_torch_where_none_is_needed(words):
    code = f"from forethought.cli.main import run\nrun({words})\nimport sys; print('torch' in sys.modules)"
    done = in_new_process(code)
    assert done.stdout.splitlines()[-1] == "False", done.stderr


def test_help_takes_under_a_second():
    def seconds():
        start = time.perf_counter()
        done = in_new_process("from forethought.cli.main import run; run(['--help'])")
        assert "forethought COMMAND" in done.stdout
        return time.perf_counter() - start

    assert min(seconds() for _ in range(3)) < 1


def test_finished_cells_are_skipped_without_torch(workplace):
    words = ["train", "experiment=smoke", "model.layers=1", "model.width=16"]
    assert run(words) == 0
    done = in_new_process(
        f"from forethought.cli.main import run\nrun({words})\nimport sys; print('torch' in sys.modules)"
    )
    assert "finished before" in done.stdout
    assert done.stdout.splitlines()[-1] == "False"


def test_hydras_own_flags(workplace, capsys):
    run(["train", "--cfg", "job", "task.degree=7"])
    assert "degree: 7" in capsys.readouterr().out
    with pytest.raises(SystemExit) as left:
        run(["train", "--help"])
    out = capsys.readouterr().out
    assert left.value.code in (0, None)
    assert "task: addition, path_star" in out
    assert "solve_threshold" in out
    assert os.listdir() == []


def test_every_config_file_says_what_it_is():
    for path in CONF.rglob("*.yaml"):
        lines = [line for line in path.read_text().splitlines() if "@package" not in line]
        assert lines[0].startswith("# "), path
