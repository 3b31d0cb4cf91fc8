"""Published numbers: the data, the runs that match them, and what these say."""

import re
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import yaml
from reports import build_report, make_run, make_sweep, save_runs
from rich.console import Console

from forethought.cli.main import run as command
from forethought.config import Composer
from forethought.config_folder import config_folder
from forethought.errors import InputError
from forethought.published import Paper, accepts, load_papers, read_protocol, same_value
from forethought.report import plots, published
from forethought.report.agreement import decide
from forethought.report.experiments import list_deviations
from forethought.report.plots import render_plot
from forethought.report.published import compare_published
from forethought.report.published_table import tabulate_cells
from forethought.report.seeds import fisher_tail, predict_mean, student_quantile
from forethought.report.table import print_table
from forethought.results.frame import build_frame, format_value

PAPERS = load_papers()
TABLES = [(paper, name) for paper in PAPERS for name in paper.tables]

EXPERIMENT = """\
# @package _global_
defaults:
  - /experiment/base
  - override /optimizer: muon
  - _self_
max_steps: 30
task:
  degree: 2
hydra:
  sweeper:
    params:
      seed: range(5)
      task.degree: 2,3
      task.label: ${task.degree}x4
    rows:
      - {objective: next_token}
      - {objective: multi_token, objective.horizon: "2,4", model.layers: 7}
"""
PAPER = """\
paper: Someone et al., 2025
title: On stars
arxiv: "2501.00001"
tables:
  table1:
    source: Table 1
    grade: A
    metric: test/accuracy
    seeds: null
    test_samples: null
    cells:
      - {value: .5, objective: next_token, task.degree: 2}
      - {value: 1.0, objective: multi_token, objective.horizon: 2, task.degree: 2,
         small: {objective: multi_token}}
      - {value: .3, objective: next_token, task.degree: 3, small: {objective: next_token}}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the experiments `someone2025/table1` and its sibling, and with the paper's numbers."""
    conf = tmp_path / "conf"
    experiments = conf / "experiment/someone2025"
    experiments.mkdir(parents=True)
    (conf / "config.yaml").write_text(
        "defaults:\n  - task: path_star\n  - optimizer: adamw\nmax_steps: 10\nprecision: fp32\n"
    )
    (conf / "experiment/base.yaml").write_text("max_steps: 20\nmodel:\n  layers: 3\n")
    (experiments / "table1.yaml").write_text(EXPERIMENT)
    (experiments / "table1_small.yaml").write_text(EXPERIMENT)
    papers = tmp_path / "papers"
    papers.mkdir()
    (papers / "someone2025.yaml").write_text(PAPER)
    monkeypatch.setattr(published, "read_protocol", partial(read_protocol, folder=conf))
    monkeypatch.setattr(published, "load_papers", partial(load_papers, papers))
    return tmp_path


def make(objective="next_token", seed=0, accuracy=0.5, small=False, overrides=(), choices=(), **config):
    """Return a run of `someone2025/table1`, of the row of its objective unless `config` says otherwise."""
    keys = {"task.degree": 2, "max_steps": 30, "model.layers": 3}
    if objective == "multi_token":
        keys |= {"objective.horizon": 2, "model.layers": 7}
    keys |= {key.replace("__", "."): value for key, value in config.items()}
    name = "someone2025/table1" + "_small" * small
    words = [f"experiment={name}", f"task.degree={keys['task.degree']}", *overrides]
    run = make_run("solved" if accuracy > 0.95 else "shortcut", seed, objective, keys, words)
    run.choices |= {"experiment": name, "optimizer": "muon", **dict(choices)}
    run.metrics["test/accuracy"] = accuracy
    return run.model_copy(update={"cell": f"{run.cell}{small}{overrides}"})


def compare(*runs):
    return compare_published(build_frame((None, run) for run in runs))


# Data


@pytest.mark.parametrize("paper", PAPERS, ids=lambda paper: paper.name)
def test_every_paper_has_a_source_and_metrics_of_ours(paper):
    assert paper.arxiv or paper.url
    for table in paper.tables.values():
        for cell in table.cells:
            metric = table.metric_of(cell)
            assert metric is None or re.fullmatch(r"solve_rate|test/(\w+_)?accuracy(_\w+)?", metric)


def offers(row, keys):
    """Tell whether a row of an experiment has runs with these values, by default where the row is silent."""
    for key, value in keys.items():
        if key == "seed":
            continue
        group, _, name = key.partition(".")
        if key not in row:
            if not name or group not in row:
                return False
            files = [config_folder() / group / f"{choice}.yaml" for choice in row[group]]
            defaults = [yaml.safe_load(file.read_text()) for file in files]
            if not any(
                name in each and same_value(format_value(each[name]), format_value(value))
                for each in defaults
            ):
                return False
        elif not accepts(row[key], format_value(value)):
            return False
    return True


@pytest.mark.parametrize(("paper", "name"), TABLES, ids=lambda part: getattr(part, "name", part))
def test_an_experiment_has_a_run_for_every_cell(paper, name):
    table = paper.tables[name]
    for small in (False, True):
        protocol = read_protocol(paper.experiment(name, small=small))
        for cell in table.cells if protocol else ():
            if keys := cell.small if small else cell.keys:
                assert any(offers(row, keys) for row in protocol), cell.label


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("grade: A", "grade: E", "tables.table1.grade=E: expected one of A, B, C, M"),
        ("value: .5", "value: 50", "value=50: out of range; use a share"),
        ("value: .5", "value: x", "tables.table1.cells.0.value=x: expected"),
        (", objective: next_token, task.degree: 2}", "}", "value=0.5: selects no runs"),
        ("task.degree: 3,", "task.degree: 2,", "next_token degree=2: duplicate cell"),
        ("    seeds: null\n", "", "tables.table1.seeds: missing"),
        ("source:", "sources:", "tables.table1.source: missing"),
        ("grade: A", "grade: A\n    unit: x", "tables.table1.unit: unknown key"),
        ('"2501.00001"', "2501.00001", "arxiv=2501.00001: expected"),
        ("tables:", "tables: [", "corrupt, not YAML"),
    ],
)
def test_a_mistake_in_a_file_is_one_line(tmp_path, old, new, said):
    assert old in PAPER
    (tmp_path / "someone2025.yaml").write_text(PAPER.replace(old, new))
    with pytest.raises(InputError, match=re.escape(said)) as caught:
        load_papers(tmp_path)
    assert str(caught.value).startswith(str(tmp_path / "someone2025.yaml"))


def test_the_rows_of_an_experiment(folder):
    first, second = read_protocol("someone2025/table1", folder / "conf")
    assert first["objective"] == ["next_token"]
    assert second["objective"] == ["multi_token"]
    assert first["model.layers"] == ["3"]
    assert second["model.layers"] == ["7"]
    assert second["objective.horizon"] == ["2", "4"]
    assert first["task.degree"] == ["2", "3"]
    assert first["seed"] == [*"01234"]
    assert (first["max_steps"], first["optimizer"], first["task"]) == (["30"], ["muon"], ["path_star"])
    assert read_protocol("someone2025/none", folder / "conf") is None
    assert accepts(["1e-3"], "0.001")
    assert accepts(["${seed}"], "7")
    assert not accepts(["1", "2"], "12")


# Matching


def test_a_composed_run_of_an_experiment_changes_nothing(workplace):
    """Compose by Hydra what `read_protocol` reads without it."""
    protocol = read_protocol("quickstart")

    def deviations(*words):
        cells = Composer(["experiment=quickstart", *words], is_sweep=True).cells()
        runs = [
            make_run(cell=cell.name, choices=cell.choices).model_copy(
                update={"overrides": cell.overrides, "config": cell.config}
            )
            for cell in cells
        ]
        frame = build_frame((None, run) for run in runs)
        return [list_deviations(run, "quickstart", protocol) for _, run in frame.iterrows()]

    assert deviations() == [[], []]
    assert deviations("seed=7", "hardware=cpu", "max_steps=2000", "objective=next_token") == [[]]
    assert deviations("seed=0", "max_steps=3", "task.reverse=true") == [["max_steps=3", "task.reverse=true"]]


def test_runs_of_the_experiment_match_the_cell_of_their_keys(folder):
    runs = [make(seed=seed, accuracy=0.5 + seed / 1000) for seed in range(5)]
    (comparison,) = compare(*runs, make("multi_token", objective__horizon=4), make()).comparisons
    assert comparison.cell.label == "next_token degree=2"
    assert comparison.experiment == "someone2025/table1"
    assert comparison.values == (0.5, 0.501, 0.502, 0.503, 0.504)  # the copy of a run counts once


@pytest.mark.parametrize(
    ("run", "change"),
    [
        (make(max_steps=100, overrides=["max_steps=100"]), "max_steps=100"),
        (make("multi_token", model__layers=3), "model.layers=3"),
        (make(overrides=["task.edge_order=by_arm"]), "task.edge_order=by_arm"),
        (make(overrides=["+trainer.x=1 2"]), "trainer.x=1 2"),
        (make(choices={"optimizer": "adamw"}), "optimizer=adamw"),
        (make(choices={"experiment": "someone2025/table1", "model": "gpt"}), ""),
        (make(overrides=["hardware=gpu", "sweep=x", "precision=fp32", "hardware.threads=1"]), ""),
    ],
)
def test_a_run_that_changes_the_experiment_is_another_setting(folder, run, change):
    compared = compare(run)
    assert len(compared.comparisons) == (not change)
    notes = [f"someone2025/table1: 1 run of another setting, not compared: {change}"] if change else []
    assert list(compared.notes) == notes


def test_several_experiments_are_another_setting(folder):
    run = make()
    del run.choices["experiment"]
    run.overrides[:] = ["experiment=[someone2025/table1,smoke]"]
    assert compare(run).notes == (
        "someone2025/table1: 1 run of another setting, not compared: experiment=smoke",
    )
    assert compare(make_run()) == published.Published()


def test_small_siblings_stand_beside_it_with_the_order_of_the_contrast(folder):
    def sibling(first, second):
        runs = [make(seed=s, accuracy=first, small=True, task__degree=3) for s in range(4)]
        return compare(*runs, *(make("multi_token", s, second, True) for s in range(4)))

    compared = sibling(0.3, 1.0)
    assert [each.word for each in compared.comparisons] == [None, None]
    assert compared.notes == ("someone2025/table1_small: order of the contrasts: 1 as published",)
    assert "1 reversed" in sibling(1.0, 0.3).notes[0]
    assert "1 cannot tell" in sibling(1.0, 1.0).notes[0]


# Decisions


def test_quantiles_of_student():
    """Compare with the tables of the distribution."""
    for degrees, quantile in {4: 2.776, 5: 2.571, 9: 2.262, 30: 2.042}.items():
        assert student_quantile(degrees) == pytest.approx(quantile, abs=1e-3)


def test_fisher_tail():
    assert fisher_tail((0, 5), (5, 5)) == fisher_tail((5, 5), (0, 5)) == pytest.approx(1 / 252)
    assert fisher_tail((0, 5), (1, 1)) == pytest.approx(1 / 6)
    assert fisher_tail((2, 5), (3, 3)) == pytest.approx(10 / 56)
    assert fisher_tail((0, 5), (0, 5)) == 1


def test_prediction_interval_by_hand():
    """Mean 0.5, variance 0.0025: 2.776 · sqrt(0.0025 · 6/5) = 0.152; with rows, 0.25 (1/500 + 1/100) more."""
    values = [0.5, 0.45, 0.55, 0.45, 0.55]
    assert predict_mean(values, 1) == pytest.approx((0.348, 0.652), abs=1e-3)
    half = 2.776 * (0.003 + 0.25 * (1 / 500 + 1 / 100)) ** 0.5
    assert predict_mean(values, 1, 100) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-3)
    assert predict_mean(values, 1, 100, 10**9)[1] < predict_mean(values, 1, 100)[1]
    low, high = predict_mean([1.0] * 5, 5, 1000)
    assert 0 < high - low < 0.01
    assert predict_mean([1.0] * 5, 5, 1000, margin=0.01) == (0.99, 1.01)


@pytest.mark.parametrize(
    ("value", "more", "values", "word"),
    [
        (0.5, {}, [0.5, 0.51, 0.49, 0.5, 0.5], "agrees"),
        (0.494, {"seeds": 5, "plus_minus": 0.005}, [0.505] * 5, "agrees"),
        (0.48, {}, [0.505] * 5, "differs"),
        (0.001, {}, [0.2] * 5, "differs"),
        (0.5, {}, [0.5] * 4, "cannot tell"),
        (0.5, {}, [0.2, 1.0, 0.2, 1.0, 0.2], "cannot tell"),
        # Three of five published seeds that do not solve it, where all of ours do: chance 10/120.
        (0.473, {"seeds": 5}, [1.0] * 5, "cannot tell"),
        (0.212, {"seeds": 5}, [1.0] * 5, "differs"),
        (0.997, {"seeds": 5}, [0.2] * 5, "differs"),
    ],
)
def test_decisions(value, more, values, word):
    cell = Paper.model_validate(paper_of(value, **more)).tables["t"].cells[0]
    interval, said, reason = decide(cell, "test/accuracy", values, 10_000)
    assert said == word
    assert bool(reason) == (word == "cannot tell")
    assert interval is None if len(values) < 5 else 0 <= interval[0] <= interval[1] <= 1


@pytest.mark.parametrize(
    ("value", "seeds", "solved", "of", "word"),
    [
        (1.0, 6, 20, 20, "agrees"),  # Wilson 84–100
        (1.0, 6, 5, 5, "cannot tell"),  # 57–100
        (0.0, 6, 5, 5, "differs"),
        (1.0, 3, 2, 5, "cannot tell"),  # 12–77, but 10/56 by chance
        (1.0, None, 2, 5, "differs"),
    ],
)
def test_decisions_on_solve_rates(value, seeds, solved, of, word):
    cell = Paper.model_validate(paper_of(value, seeds=seeds)).tables["t"].cells[0]
    assert decide(cell, "solve_rate", [1.0] * solved + [0.0] * (of - solved))[1] == word


def paper_of(value, **more):
    table = {"source": "s", "grade": "A", "metric": "test/accuracy", "seeds": None, "test_samples": None}
    table["cells"] = [{"value": value, "objective": "next_token", **more}]
    return {"name": "p", "paper": "P", "title": "T", "arxiv": "2501.00001", "tables": {"t": table}}


# Report


def make_table():
    """Return five seeds of the first two cells: the first agrees, the second differs."""
    return [make(seed=seed, accuracy=0.5) for seed in range(5)] + [
        make("multi_token", seed, 0.6) for seed in range(5)
    ]


def test_report_of_matching_runs(folder, monkeypatch):
    monkeypatch.setattr(plots, "PLOTS", {"published": plots.PLOTS["published"]})
    page = build_report(save_runs(folder / "sweep", make_table(), curves=False))
    table = pd.read_csv(page.parent / "published.csv")
    assert table["decision"].tolist() == ["agrees", "differs"]
    assert table["published"].tolist() == [0.5, 1.0]
    assert table["runs"].tolist() == [5, 5]
    assert table.loc[0, "ours"] == "0.5 0.5 0.5 0.5 0.5"
    assert (table["low"] < table["high"]).all()
    assert "Published against measured</h2>" in page.read_text()
    assert (page.parent / "plots/published.png").exists()


def test_a_report_without_matching_runs_has_no_table(folder):
    sweep = make_sweep([make_run(seed=seed) for seed in range(2)])
    assert render_plot("published", sweep) == {}
    assert "Published" not in show(sweep)


def show(sweep):
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    print_table(sweep, console)
    return console.export_text()


def test_table_on_the_terminal(folder):
    sweep = make_sweep([*make_table(), make("multi_token", 9, 0.5, overrides=["batch_size=3"])])
    text = show(sweep)
    assert re.search(r"next_token degree=2 +50 +A +50 +5 +49–51 +agrees", text)
    assert re.search(r"multi_token horizon=2 degree=2 +100 +A +60 +5 +59–61 +differs", text)
    assert "1 run of another setting, not compared: batch_size=3" in text
    paper = published.load_papers()[0]
    rows = tabulate_cells(paper, "table1", sweep.published.comparisons)
    assert [row[-1] for row in rows] == ["agrees", "differs", "open"]


# Command


def test_command_lists_every_table(workplace, capsys):
    assert command(["published"]) == 0
    words = capsys.readouterr().out
    for paper, name in TABLES:
        assert re.search(rf"{paper.name}/{name[:9]}", words), (paper.name, name)


def test_command_on_runs(folder, workplace, capsys, monkeypatch):
    monkeypatch.setattr("forethought.published.load_papers", partial(load_papers, folder / "papers"))
    monkeypatch.setattr("forethought.published.read_protocol", partial(read_protocol, folder=folder / "conf"))
    sweep = save_runs(Path("multirun/s"), make_table(), curves=False)
    assert command(["published", str(sweep)]) == 0
    assert re.search(r"someone2025/table1 +3 +A +2 of 3 +1 +1 +0", capsys.readouterr().out)
    assert command(["published"]) == 0  # a folder without grid.json is no sweep
    assert re.search(r"someone2025/table1 +3 +A +open", capsys.readouterr().out)
    (sweep / "grid.json").write_text(repr({run.cell: [] for run in make_table()}).replace("'", '"'))
    assert command(["published", "someone2025"]) == 0
    shown = capsys.readouterr().out
    assert "forethought train -m experiment=someone2025/table1\n" in shown
    assert re.search(r"next_token degree=2 +50 +A +50 +5 +49–51 +agrees", shown)
    assert re.search(r"next_token degree=3 +30 +A +– +– +– +open", shown)
    assert command(["published", "nowhere"]) == 2
    assert "nowhere: no such path or paper; expected someone2025" in capsys.readouterr().err
