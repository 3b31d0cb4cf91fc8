"""The notebooks run from top to bottom, on a small real sweep in the place of theirs."""

import os
import re
import sys
from pathlib import Path

import pytest

from forethought.cli.main import run

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
TINY = ["-m", "experiment=quickstart", "hydra/launcher=basic", "max_steps=4", "eval_every=2", "log_every=2"]
SAMPLES = ["evaluation.validation_samples=64", "evaluation.test_samples=64"]


@pytest.mark.slow
def test_the_story_of_the_paper_runs(workplace, monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    assert run(["train", *TINY, *SAMPLES, "objective=next_token,token_order"]) == 0
    assert run(["train", *TINY, *SAMPLES, "task.reverse=true"]) == 0
    Path("notebooks").mkdir()
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent) + os.pathsep + os.environ["PATH"])
    monkeypatch.setenv("IPYTHONDIR", str(workplace / "ipython"))
    (path,) = NOTEBOOKS
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": "notebooks"}}).execute()

    assert not Path("multirun/notebook").exists()  # it found the sweep
    shown = "\n".join(
        str(output.get("text") or output.get("data", {}).get("text/plain", ""))
        for cell in notebook.cells
        for output in cell.get("outputs", ())
    )
    assert "report: ../multirun/quickstart/report/report.html" in shown
    assert len(re.findall(r"^[01] +undertrained +undertrained +undertrained", shown, re.MULTILINE)) == 2
    assert "the intervals part at 4 seeds each" in shown
    assert "only reversed: 0, only plain: 0, p = 1.000" in shown
    pictures = [
        output for cell in notebook.cells for output in cell.get("outputs", ()) if "image/png" in str(output)
    ]
    assert len(pictures) == 2


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_what_is_kept_of_a_notebook_is_small_and_names_no_machine(path):
    text = path.read_text()
    assert len(text) < 200_000
    assert not re.search(r"/(home|root|tmp|work|Users)/", text)
