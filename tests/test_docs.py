"""Test that the examples of the docs run, that commands compose, and that tables are complete."""

import os
import pkgutil
import re
import shlex
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from helpers import forethought

from forethought.cli.main import run
from forethought.config import Composer
from forethought.errors import Impossible
from forethought.evaluation import diagnose
from forethought.models import GPT
from forethought.objectives import NextToken
from forethought.tasks import Addition, Draws, PathStar
from forethought.training import check

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), flags=re.DOTALL)


def commands(page):
    """Return the words of every `forethought …` line, with its continuation lines."""
    text = "\n".join(blocks(page, "bash")).replace("\\\n", " ")
    return [
        shlex.split(line.split("#")[0].partition("forethought ")[2])
        for line in text.splitlines()
        if re.match(r"(PYTHONPATH=\. )?forethought ", line)
    ]


def write_files_of(page):
    """Write each file that the page shows: `name`: and then a block. Return the names."""
    found = re.findall(r"`([\w./]+\.(?:py|yaml))`[^`]*?:\n\n```\w+\n(.*?)```", page.read_text(), re.DOTALL)
    for name, text in found:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)
    return [name for name, _ in found]


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "docs" / "EXTENDING.md"], ids=lambda p: p.name)
def test_worked_examples_run(workplace, monkeypatch, page):
    shown = [words for words in commands(page) if "--config-dir" in words]
    assert len(write_files_of(page)) >= len(shown) > 0
    monkeypatch.setenv("PYTHONPATH", ".", prepend=os.pathsep)
    for command in shown:
        done = forethought(*command)
        assert done.returncode == 0, done.stderr
    single = [words for words in shown if "-m" not in words]
    assert len(list(Path("outputs").glob("*/results.json"))) == len(single)


def test_the_notebook_section_runs(workplace):
    section = (ROOT / "README.md").read_text().partition("## From a notebook")[2].partition("\n## ")[0]
    for command in re.findall(r"^forethought (.*)$", section, re.MULTILINE):
        assert forethought(*shlex.split(command)).returncode == 0
    script = "\n".join(re.findall(r"```python\n(.*?)```", section, re.DOTALL))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "test/accuracy" in done.stdout
    assert list(Path("checkpoints").glob("*.ckpt"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_train_command_composes(workplace, page):
    for words in commands(page):
        shows = any(word in words for word in ("--help", "--keys", "--cfg"))
        if words[0] != "train" or shows or "--config-dir" in words or "hydra/sweeper=optuna" in words:
            continue  # the last is no grid; tests/test_search.py
        overrides = [word for word in words[1:] if word != "-m"]
        for cell in Composer(overrides, is_sweep="-m" in words).cells():
            with suppress(Impossible):
                check(cell.config)


def test_the_table_of_objectives_is_whole():
    """Compare the names with conf/objective, and the sentences with the first lines of docstrings."""
    table = dict(re.findall(r"^\| `(\w+)` \| ([^|]*) \|$", (ROOT / "README.md").read_text(), re.MULTILINE))
    for path in (ROOT / "conf" / "objective").glob("*.yaml"):
        target = pkgutil.resolve_name(re.search(r"_target_: (\S+)", path.read_text())[1])
        assert table[path.stem] == target.__doc__.splitlines()[0]


def test_every_metric_is_in_the_table():
    names = set()
    for task in (PathStar(degree=2, path_length=4, num_nodes=8), Addition(digits=3)):
        model = GPT.for_task(task, layers=1, width=8, heads=1)
        rows = task.sample(200, Draws(0))
        names |= diagnose(NextToken(model, task), rows).keys()
    table = (ROOT / "docs" / "METRICS.md").read_text()
    documented = re.findall(r"`test/(\w+(?:<\w+>)?)`", table)
    patterns = [re.sub(r"<\w+>", r"\\w+", name) for name in documented]
    for name in names:
        assert any(re.fullmatch(pattern, name) for pattern in patterns), name


def test_readme_shows_every_command_and_room(capsys):
    run(["--help"])
    readme, help_text = (ROOT / "README.md").read_text(), capsys.readouterr().out
    for name in re.findall(r"^    ?(\w+) ", help_text, re.MULTILINE):
        assert f"forethought {name}" in readme
    rooms = {path.parent.name for path in (ROOT / "src" / "forethought").glob("*/__init__.py")}
    assert {*re.findall(r"^\| `(\w+)` \|", readme.partition("## Inside")[2], re.MULTILINE)} == rooms


def test_every_promise_has_its_test():
    """Look up the tests that each row of RELIABILITY.md names."""
    text = (ROOT / "docs" / "RELIABILITY.md").read_text()
    promises = [row for row in text.splitlines() if row.startswith("| ") and not row.startswith("| promise")]
    assert len(promises) > 20
    for row in promises:
        named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", row)
        assert named, row
        for file, test in named:
            assert f"\ndef {test}(" in (ROOT / "tests" / file).read_text(), f"{file}::{test}"


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
