"""Constructors of users' own that look at values, or that fail."""

from pathlib import Path

import pytest
from helpers import TINY

from forethought.cli.main import run
from forethought.sweeps import sweep_status

WORDS = ["objective._target_=own.ReadsValues"]
WAYS = ["item", "list", "numpy", "branch", "assert", "mixed", "distribution", "nonzero"]


@pytest.fixture(autouse=True)
def found(workplace, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=":")


@pytest.mark.slow
def test_a_constructor_may_look_at_values(capsys):
    words = ["train", "-m", *TINY, *WORDS, f"+objective.how={','.join(WAYS)}", "dry_run=true"]
    assert run(words) == 0
    assert f"{len(WAYS)} cells: 0 finished, {len(WAYS)} to run" in capsys.readouterr().out


def test_an_optimizer_may_look_at_values(capsys):
    words = ["~optimizer.betas", "~optimizer.weight_decay", "~optimizer.fused"]
    assert run(["train", *TINY, "optimizer._target_=own.ReadsWeights", *words, "hydra.run.dir=run"]) == 0


@pytest.mark.slow
def test_a_constructor_that_fails_costs_its_cell_alone(capsys):
    """A dry run names it in one line, and the sweep runs the others."""
    words = ["train", "-m", *TINY, *WORDS, "+objective.how=assert", "+objective.limit=0.5,1.0", "sweep=s"]
    assert run([*words, "dry_run=true"]) == 0
    out = capsys.readouterr().out
    (line,) = [line for line in out.splitlines() if line.startswith("would fail")]
    assert line.endswith(": AssertionError: beyond the limit")
    assert "2 cells: 0 finished, 2 to run" in out
    assert "one after another" in out
    assert run([*words, "hydra/launcher=basic"]) == 1
    assert "AssertionError: beyond the limit" in capsys.readouterr().out
    states = {cell.state: cell for cell in sweep_status(Path("multirun/s"))}
    assert states.keys() == {"finished", "failed"}
    assert "Traceback" in Path("multirun/s", states["failed"].name, "run.log").read_text()


def test_an_option_that_a_constructor_rejects_is_found_beforehand(capsys):
    assert run(["train", *TINY, *WORDS, "+objective.how=option", "+objective.limit=0.5"]) == 2
    assert "objective: ReadsValues rejects its options (beyond the limit)" in capsys.readouterr().err
    assert not Path("outputs").exists()
