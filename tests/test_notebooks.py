"""The notebooks run from top to bottom, on committed results and on small sweeps in the place of theirs."""

import os
import re
import sys
from pathlib import Path

import pytest

from forethought.cli.main import run

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
TINY = ["-m", "experiment=quickstart", "hydra/launcher=basic", "max_steps=4", "eval_every=2", "log_every=2"]
SAMPLES = ["evaluation.validation_samples=64", "evaluation.test_samples=64"]


@pytest.fixture
def execute(workplace, monkeypatch):
    """Return a function that runs a notebook and returns what it printed and its pictures."""
    import nbformat
    from nbclient import NotebookClient

    Path("notebooks").mkdir()
    Path("docs").symlink_to(ROOT / "docs")
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent) + os.pathsep + os.environ["PATH"])
    monkeypatch.setenv("IPYTHONDIR", str(workplace / "ipython"))

    def run_notebook(name):
        notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
        NotebookClient(notebook, timeout=300, resources={"metadata": {"path": "notebooks"}}).execute()
        outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
        texts = [output.get("text", output.get("data", {}).get("text/plain", "")) for output in outputs]
        return "\n".join(texts), [output for output in outputs if "image/png" in output.get("data", {})]

    return run_notebook


@pytest.mark.slow
def test_the_failure_is_seen_in_a_sweep(execute):
    assert run(["train", *TINY, *SAMPLES, "objective=next_token,token_order"]) == 0
    assert run(["train", *TINY, *SAMPLES, "task.reverse=true"]) == 0
    shown, pictures = execute("does_it_fail")
    assert not Path("multirun/notebook").exists()  # it found the sweep
    assert "report: ../multirun/quickstart/report/report.html" in shown
    assert len(re.findall(r"^[01] +undertrained +undertrained +undertrained", shown, re.MULTILINE)) == 2
    assert "the intervals part at 4 seeds each" in shown
    assert "only reversed: 0, only plain: 0, p = 1.000" in shown
    assert len(pictures) == 2


@pytest.mark.slow
def test_the_repairs_are_compared_on_committed_results(execute):
    shown, pictures = execute("what_repairs_it")
    tables = [(ROOT / "docs" / "results" / f"{name}.csv").read_text() for name in ("quickstart", "repairs")]
    count = sum(len(table.splitlines()) - 1 for table in tables)
    assert f"{count} runs of {count // 5} settings" in shown
    assert re.search(r"^token_order +5 +5 +0\.57 +1\.00", shown, re.MULTILINE)
    assert re.search(r"^\d+ +token_order +5 +0 +5\b", shown, re.MULTILINE)
    assert len(pictures) == 1


@pytest.mark.slow
def test_the_views_of_distance_are_drawn(execute):
    probes = ["sweep=probes", "evaluation.probe_samples=200", "objective=next_token,token_order", "seed=1"]
    assert run(["train", *TINY, *SAMPLES, *probes]) == 0
    shown, pictures = execute("how_far_ahead")
    assert re.search(r"^masked_diffusion +False +0\.99 +1\.00 +0\.98 +0\.50", shown, re.MULTILINE)
    assert re.search(r"^ +token_order( \d\.\d\d){5}$", shown, re.MULTILINE)
    assert len(pictures) == 3


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_what_is_kept_of_a_notebook_is_small_and_names_no_machine(path):
    text = path.read_text()
    assert len(text) < 200_000
    assert not re.search(r"/(home|root|tmp|work|Users)/", text)
