"""Test that the commands and examples of the docs run, and that tables are complete."""

import os
import re
import shlex
from contextlib import suppress
from pathlib import Path

import pytest
from helpers import TINY, choices, chosen, rows
from matplotlib.figure import Figure

from forethought.cli.main import COMMANDS, run
from forethought.config import Composer
from forethought.errors import Impossible
from forethought.evaluation import diagnose
from forethought.models import GPT
from forethought.objectives import NextToken
from forethought.tasks import Addition, Draws, PathStar
from forethought.training import check

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]

NOT_RUN = {
    "hydra/launcher=submitit_slurm": "requires Slurm; tests/test_launchers.py has stand-ins for its commands",
    "hydra/launcher=ray": "starts Ray; tests/test_launchers.py",
    "hydra/sweeper=optuna": "trains 40 runs; tests/test_search.py",
    "hardware=multi_gpu": "requires GPUs; tests/test_ddp.py has two processes on a CPU",
    "logger=wandb": "starts W&B for each cell; tests/test_wandb.py",
    "dashboard": "requires a W&B server; tests/test_dashboard.py",
    "dry_run=true": "takes a probe of 20 seconds; tests/test_sweep.py",
}
"""Commands that contain one of these words, and the reason why `test_every_command` does not run them.

Training without `experiment=smoke` takes minutes to days. All of these commands are composed and checked.
"""


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), flags=re.DOTALL)


def commands(page):
    """Return the words of every `forethought …` line in a bash block, with its continuation lines.

    Commands on the folders of all sweeps but two are the same command here: one sweep stands for all.
    """
    text = "\n".join(blocks(page, "bash")).replace("\\\n", " ")
    lines = re.findall(r"^ *(?:\w+=\S+ |srun \S+ )*forethought (.*)$", text, re.MULTILINE)
    lines = [re.sub(r"\bmultirun/(?!demo\b)[\w-]+", "multirun/deg-by-len", line) for line in lines]
    return [tuple(shlex.split(line, comments=True)) for line in lines]


@pytest.fixture(scope="module")
def folder_of_docs(tmp_path_factory):
    """A folder with each file that a page shows (`name`: and a block), and the sweeps that pages name."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "docs").symlink_to(DOCS)  # pages name its files of runs
    for page in PAGES:
        shown = re.findall(
            r"`([\w./]+\.(?:py|yaml))`[^`]*?:\n\n```\w+\n(.*?)```", page.read_text(), re.DOTALL
        )
        for name, text in shown:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
    task = PathStar(degree=2, path_length=4)
    graphs = rows(task, 20)
    lines = [task.text(prompt, answer) for prompt, answer in zip(graphs.prompt, graphs.answer, strict=True)]
    (folder / "graphs.txt").write_text("\n".join(lines))
    sweep = [
        "sweep=deg-by-len",
        "objective=next_token,next_latent",
        "task.degree=2,3",
        "task.path_length=3,4",
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for words in (sweep, ["sweep=demo", "objective=next_token,teacherless"]):
            assert run(["train", "-m", *TINY, *words, "hydra/launcher=basic"]) == 0
    return folder


@pytest.fixture
def in_docs(folder_of_docs, workplace, monkeypatch):
    """Make the folder of the docs the current one, and let Python find its modules."""
    monkeypatch.chdir(folder_of_docs)
    monkeypatch.syspath_prepend(str(folder_of_docs))
    monkeypatch.setenv("PYTHONPATH", str(folder_of_docs), prepend=os.pathsep)


def compose_and_check(words):
    sweeps = "-m" in words
    here = ["hardware.accelerator=cpu"] if "hardware=multi_gpu" in words else []
    for cell in Composer([*(word for word in words if word != "-m"), *here], is_sweep=sweeps).cells():
        with suppress(Impossible):
            check(cell.config)


def list_commands():
    """Return each command of the pages once. Those of the README are fast tests."""
    found = dict.fromkeys(words for page in PAGES for words in commands(page))
    first = commands(PAGES[0])
    return [pytest.param(words, marks=[] if words in first else pytest.mark.slow) for words in found]


@pytest.mark.parametrize("words", list_commands(), ids=" ".join)
def test_every_command(in_docs, capsys, monkeypatch, words):
    command, *rest = (re.sub(r"^seed=range\((\d+,)?\d+\)$", "seed=range(1)", word) for word in words)
    not_run = NOT_RUN.keys() & {*words}
    if command == "train":
        prints = {"--help", "--keys", "--cfg"} & {*words}
        if not_run or not (prints or "experiment=smoke" in words):
            if "hydra/sweeper=optuna" not in words:  # a search composes its cells while it runs
                # The runs to start from, of an earlier command, are not trained here.
                compose_and_check(
                    [word for word in rest if not word.startswith("init_from=")] + ["init_from=null"]
                )
            return
    if command == "report" and len(rest) > 1:  # the plain report writes its pictures; half a report's time
        monkeypatch.setattr(Figure, "savefig", lambda *_, **__: None)
    run_folder = next(Path("multirun/deg-by-len").glob("*2x4*next_token*"))
    rest = [re.sub("^multirun/.*/RUN$", str(run_folder), word) for word in rest]
    for long, short in (
        ("max_steps=20000", "max_steps=40"),
        ("evaluation.samples=64", "evaluation.samples=4"),
    ):
        rest = [short if word == long else word for word in rest]
    code = run([command, *rest])
    error = capsys.readouterr().err
    assert code == 0 or (not_run and f"see forethought {command} --help" not in error), error


def test_every_reason_not_to_run_a_command_is_needed():
    assert NOT_RUN.keys() <= {word for page in PAGES for words in commands(page) for word in words}


def test_make_has_every_target_that_is_named():
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for page in PAGES:
        for line in re.findall(r"^make (.*)$", "\n".join(blocks(page, "bash")), re.MULTILINE):
            assert {*line.partition("#")[0].split()} <= {*targets}, (page.name, line)


@pytest.mark.parametrize(
    ("page", "title", "shown"),
    [("EXTENDING.md", "In a notebook", "test/accuracy"), ("REPORT.md", "In pandas", "undertrained")],
)
def test_the_python_of_a_section_runs(in_docs, capsys, page, title, shown):
    section = (DOCS / page).read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    for command in re.findall(r"^forethought (.*)$", section, re.MULTILINE):
        assert run(shlex.split(command)) == 0
    script = "\n".join(re.findall(r"```python\n(.*?)```", section, re.DOTALL))
    exec(script, {"__name__": "__main__"})
    assert shown in capsys.readouterr().out


def test_extras_are_installed_from_the_checkout():
    """The package is on no index, so `pip install forethought[…]` would fail."""
    pages = [*PAGES, *ROOT.glob("conf/**/*.yaml"), *ROOT.glob("src/**/*.py"), *ROOT.glob("notebooks/*.ipynb")]
    assert [path for path in pages if re.search(r"install.*forethought\[", path.read_text())] == []


def test_the_table_of_objectives_is_whole():
    """Compare it with conf/objective, with docstrings, and with the sources that these name."""
    page = (DOCS / "OBJECTIVES.md").read_text()
    paper = r"\[[^\]]+, \d{4}\]\(https://arxiv.org/abs/(\d{4}\.\d{5})\)"
    table = {
        name: entries
        for name, *entries in re.findall(
            rf"^\| `(\w+)` \| (.*) \| {paper} \| (?:`(\w+)`|–) \|$", page, re.MULTILINE
        )
    }
    assert table.keys() == {*choices("objective")}
    for name, (sentence, arxiv, option) in table.items():
        target, options = chosen("objective", name)
        assert sentence == target.__doc__.splitlines()[0]
        assert f"({arxiv})" in target.__doc__
        assert option in options or not (option or options)


def test_readme_groups_every_objective_once():
    table = (ROOT / "README.md").read_text().partition("| what is changed |")[2].partition("\n\n")[0]
    assert sorted(re.findall(r"`(\w+)`", table)) == choices("objective")


def test_every_metric_is_in_the_table():
    names = set()
    for task in (PathStar(degree=2, path_length=4, num_nodes=8), Addition(digits=3)):
        model = GPT.for_task(task, layers=1, width=8, heads=1)
        rows = task.sample(200, Draws(0))
        names |= diagnose(NextToken(model, task), task, rows).keys()
    table = (DOCS / "REPORT.md").read_text()
    documented = re.findall(r"`test/(\w+(?:<\w+>)?)`", table)
    patterns = [re.sub(r"<\w+>", r"\\w+", name) for name in documented]
    for name in names:
        assert any(re.fullmatch(pattern, name) for pattern in patterns), name


def test_the_tables_of_commands_and_rooms_are_whole():
    reference, extending = (DOCS / "REFERENCE.md").read_text(), (DOCS / "EXTENDING.md").read_text()
    assert re.findall(r"^\| `forethought (\w+)", reference, re.MULTILINE) == [*COMMANDS]
    rooms = {path.parent.name for path in (ROOT / "src" / "forethought").glob("*/__init__.py")}
    assert {*re.findall(r"^\| `(\w+)` \|", extending.partition("## The rooms")[2], re.MULTILINE)} == rooms


def test_the_path_through_the_docs_is_whole():
    """Each page opens with a command and ends with a link to the next; README leads to all of them."""
    readme = (ROOT / "README.md").read_text()
    assert readme.count("\n") <= 150
    for page in PAGES[1:]:
        assert f"](docs/{page.name}" in readme
        if page.name != "PERFORMANCE.md":  # the last, written by benchmarks
            assert re.match(r"# .*\n\n```bash\n", page.read_text()), page.name
            assert re.search(r"\nNext: \[\w+\.md\]", page.read_text()), page.name


def test_every_promise_has_its_test():
    """Look up the tests that each row of RELIABILITY.md names."""
    text = (DOCS / "RELIABILITY.md").read_text()
    promises = [row for row in text.splitlines() if row.startswith("| ") and not row.startswith("| promise")]
    assert len(promises) > 20
    for row in promises:
        named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", row)
        assert named, row
        for file, test in named:
            assert f"\ndef {test}(" in (ROOT / "tests" / file).read_text(), f"{file}::{test}"


@pytest.mark.parametrize("path", [*DOCS.glob("results/*.csv")], ids=lambda path: path.name)
def test_results_name_no_path_of_a_machine(path):
    assert not re.search(r"(^|[,\"= ])/\w", path.read_text(), re.MULTILINE)


def test_links_lead_somewhere():
    for page in PAGES:
        for target, section in re.findall(r"\]\((?!https:)([^)#]*)(?:#([^)]*))?\)", page.read_text()):
            path = page.parent / target if target else page
            assert path.exists(), f"{page.name}: {target}"
            titles = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE) if section else []
            anchors = [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]
            assert not section or section in anchors, f"{page.name}: {target}#{section}"
