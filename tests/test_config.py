"""Command-line words become cells: as Hydra composes them, each once, and quickly."""

import os
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest
from helpers import CONF, TINY, forethought
from hydra import compose
from omegaconf import OmegaConf

from forethought.cli.main import run
from forethought.config import Composer
from forethought.errors import InputError
from forethought.sweeps import NOT_IDENTITY


def composed(*words, **options):
    return Composer(list(words), True, **options).cells()


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["seed=3", "optimizer.lr=1e-3", "stop_when_solved=false", "init_from='a, b=c'"],
        ["task=addition", "model=lstm", "objective=multi_token", "objective.horizon=2"],
        ["experiment=smoke", "evaluation.test_samples=7", "logger=wandb", "logger.entity='b c, [d]'"],
        ["experiment=quickstart", "task.degree=3", "sweep='é \\'x\\''"],
        ["evaluation={decoding: sample, test_samples: 9}", "optimizer.betas=[0.8,0.9]"],
        ["task.path_length=${task.degree}", "task.degree=3", "batch_size=${max_steps}"],
        ["+task.new={a: [1, {b: 2}]}", "++seed=4", "++task.other=x", "task.other=y", "max_steps=2"],
        ["max_steps=2", "++max_steps=3", "max_steps=4", "++max_steps=5"],
        ["~stop_when_solved", "~task.reverse=false", "+trainer.profiler=simple"],
        ["~callbacks", "model=mamba", "optimizer=muon", "hydra/launcher=basic", "+evaluation.x='${seed}'"],
        ["task.test_file=null", "task.num_nodes=12"],
        ["objective=[next_token,multi_token]", "init_from=", 'sweep="a\tb"'],
    ],
    ids=" ".join,
)
def test_a_config_is_what_hydra_composes(words):
    (cell,) = Composer(words).cells()
    plain = OmegaConf.to_container(compose("config", words), resolve=True)
    assert cell.config == plain
    again = Composer(cell.words, True, folder=Path("s")).cell(cell.words)
    assert (again.name, again.config) == (cell.name, cell.config)


def test_cells_that_differ_in_values_alone_share_what_hydra_composed(workplace):
    """And a cell is run as it was checked, though its files are edited in between."""
    path = workplace / "mine" / "experiment" / "e.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("# @package _global_\nmax_steps: 5\n")
    composer = Composer([], True, config_dir="mine")
    steps = [composer.cell(["experiment=e", "seed=0"]).config["max_steps"]]
    path.write_text("# @package _global_\nmax_steps: 7\n")
    for words in (["seed=1", "task.degree=3"], ["seed=1", "model=lstm"]):
        steps.append(composer.cell(["experiment=e", *words]).config["max_steps"])
    assert steps == [5, 5, 7]
    assert composer.cell(["experiment=e"]).config["task"]["degree"] == 2


CARD = [
    "objective=next_token,multi_token,next_latent",
    *("objective.horizon=1,2,3,4", "task.degree=2,3,5", "task.path_length=3,4,5"),
]


@pytest.mark.slow
def test_the_sweep_of_the_design_card(workplace, capsys):
    """9 graphs × (1 + 4 + 4) objectives; a horizon of 4 is beyond an answer of 3 for multi-token alone."""
    assert run(["train", "-m", *CARD, *TINY, "dry_run=true", "hydra/launcher=submitit_local"]) == 0
    out = capsys.readouterr().out
    assert "78 cells: 0 finished, 78 to run; and 3 impossible" in out
    names = re.findall("^would run +(.*)", out, re.MULTILINE)
    assert len({*names}) == 78
    objectives = Counter(re.search("-(next_token|multi_token|next_latent)-", name)[1] for name in names)
    assert objectives == {"next_token": 9, "multi_token": 33, "next_latent": 36}
    impossible = re.findall("^impossible +(.*):", out, re.MULTILINE)
    assert all("x3-" in name and "-multi_token-4-" in name for name in impossible)
    assert os.listdir() == []


def write_experiment(name, params, text=""):
    path = Path("mine/experiment") / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"      {key}: {value}\n" for key, value in params.items())
    path.write_text(f"# @package _global_\n{text}hydra:\n  sweeper:\n    params:\n{lines}")


def test_an_experiment_file_sweeps_like_the_line_and_gives_way_to_it(workplace):
    params = dict(word.split("=", 1) for word in CARD)
    write_experiment("card", params)
    line = ["task.degree=2", "task.path_length=3,4", "objective.horizon=2"]
    cells = composed("experiment=card", *line, config_dir="mine")
    assert [cell.name for cell in cells] == [cell.name for cell in composed(CARD[0], *line)]
    assert len(cells) == 2 * 3


def test_a_value_of_an_experiment_file_follows_the_seed_of_each_cell(workplace):
    write_experiment(
        "graphs",
        {"seed": "3,5", "task.graph_seed": "${seed}"},
        "defaults: [{override /task: transitive_path}]\n",
    )
    cells = composed("experiment=graphs", config_dir="mine")
    assert [(cell.config["seed"], cell.config["task"]["graph_seed"]) for cell in cells] == [(3, 3), (5, 5)]


ROWS = """\
# @package _global_
max_steps: 30
hydra:
  sweeper:
    params:
      seed: range(2)
      model.layers: 3
    rows:
      - objective: next_token,token_order
      - objective: multi_token,sequential_multi_token
        objective.horizon: 2,4
        model.layers: 1
        task.train_samples: null
"""


@pytest.mark.slow
def test_the_rows_of_an_experiment_file_are_sweeps_of_their_own(workplace):
    """The sweep is what one command for each row runs into one folder."""
    folder = Path("mine/experiment/paper")
    folder.mkdir(parents=True)
    (folder / "table.yaml").write_text(ROWS)

    def names(*words):
        return [cell.name for cell in composed(*words, config_dir="mine")]

    table = "experiment=paper/table"
    each = ["max_steps=30", "seed=range(2)"]
    first = [*each, "model.layers=3", "objective=next_token,token_order"]
    second = [
        *each,
        "model.layers=1",
        "objective=multi_token,sequential_multi_token",
        "objective.horizon=2,4",
    ]
    assert sorted(names(table)) == sorted([*names(*first), *names(*second)])
    assert len(names(table)) == 2 * (2 + 2 * 2)
    assert {cell.config["task"]["train_samples"] for cell in composed(table, config_dir="mine")} == {None}
    # A choice selects rows, a value replaces theirs.
    assert names(table, "objective=token_order") == names(*first, "objective=token_order")
    chosen = names(
        table, "objective=multi_token,next_token", "objective.horizon=2", "model.layers=2", "seed=1"
    )
    assert len(chosen) == len({*chosen}) == 2
    assert all("gpt-2x64" in name for name in chosen)
    assert sum("multi_token-2-s1" in name for name in chosen) == 1
    # Each cell composes again from its words alone, and a single run has no rows.
    again = Composer([], True, config_dir="mine", folder=Path("s"))
    for cell in composed(table, config_dir="mine"):
        assert again.cell(cell.words[1:]).name == cell.name
    assert len(Composer([table], config_dir="mine").cells()) == 1
    smoke = composed("experiment=[paper/table,smoke]", config_dir="mine")
    assert {cell.config["max_steps"] for cell in smoke} == {20}
    assert len(smoke) == len(names(table))
    for words, said in {
        (
            table,
            "objective=teacherless",
        ): r"objective=teacherless: no row .* expected objective=multi_token,next_token,",
        (table, "objective.wdith=3"): r"objective.wdith: no such key .*horizon",
        (
            "experiment=paper/table,smoke",
            "sweep=s",
            *each,
            "model.layers=1",
        ): "paper/table: has rows; sweep one",
    }.items():
        with pytest.raises(InputError, match=said):
            names(*words)


def test_several_experiments(workplace):
    write_experiment("a", {"seed": "0,1"}, "max_steps: 3\n")
    write_experiment("b", {"max_steps": "4,5"})
    both = ["experiment=a,b", "sweep=s"]
    with pytest.raises(InputError, match=r"experiment=a: .*seed=VALUES"):
        composed(*both, config_dir="mine")
    cells = composed(*both, "seed=0,1", "max_steps=6", config_dir="mine")
    assert [(cell.config["seed"], cell.config["max_steps"]) for cell in cells] == [(0, 6), (1, 6)]
    with pytest.raises(InputError, match=r"sweep: .*multirun/quickstart, multirun/sweep"):
        composed("experiment=quickstart,smoke", "seed=0")


@pytest.mark.parametrize(
    ("words", "count"),
    [
        ("task=addition,path_star task.degree=2,3 task.digits=3,4", 4),
        ("objective=next_token,multi_token objective.horizon=2", 2),
        ("model=gpt,lstm model.heads=2,4 model.width=16,32", 6),
        ("objective=next_token,multi_token ++objective.horizon=2,3", 4),
        ("task.degree=2,2,3 seed=range(3)", 6),
        ("optimizer.lr=1,1.0", 1),
        ("'seed=sort(choice(2,0,1))' logger=csv".replace("'", ""), 3),
        ("optimizer.betas=[0.8,0.9],[0.9,0.95]", 2),
        ("sweep='a,b' seed=1", 1),
        ("evaluation={decoding:greedy},{decoding:beam}", 2),
    ],
)
def test_each_cell_once_and_a_key_where_its_choice_has_it(words, count):
    cells = composed(*words.split())
    assert len({cell.name for cell in cells}) == len(cells) == count
    for cell in cells:
        again = Composer([], True, folder=Path("s")).cell(cell.words)
        assert (again.name, again.config) == (cell.name, cell.config)


@pytest.mark.parametrize("order", [1, -1])
def test_a_config_dir_goes_together_with_a_search_path(workplace, order):
    """Each has a choice of its own; a relative --config-dir is kept as an absolute one."""
    for folder, name in (("one", "a"), ("two", "b")):
        Path(folder, "objective").mkdir(parents=True)
        Path(folder, "objective", f"{name}.yaml").write_text(
            "# x\n_target_: forethought.objectives.NextToken\n"
        )
    words = ["objective=a,b", f"hydra.searchpath=[file://{workplace}/two]"][::order]
    cells = composed(*words, config_dir="one")
    assert sorted(cell.choices["objective"] for cell in cells) == ["a", "b"]
    assert all(f"--config-dir={workplace}/one" in cell.words for cell in cells)
    assert all(words[::order][1] in cell.words for cell in cells)


@pytest.mark.parametrize(
    "name", ["root", *(pytest.param(name, marks=pytest.mark.slow) for name in ("root.yaml", "roots/deep"))]
)
def test_a_root_config_lies_in_a_config_dir(workplace, name):
    """As in Hydra: it may build on ours, and bring a group of its own."""
    Path("mine/roots").mkdir(parents=True)
    Path("mine/schedule").mkdir()
    text = "defaults:\n  - /config\n  - /schedule: short\n  - _self_\nbatch_size: 4\n"
    for root in ("root", "roots/deep"):
        Path(f"mine/{root}.yaml").write_text(f"# @package _global_\n{text}")
    for schedule, steps in (("short", 3), ("long", 5)):
        Path(f"mine/schedule/{schedule}.yaml").write_text(f"# @package _global_\nmax_steps: {steps}\n")
    flags = ["--config-dir=mine", f"--config-name={name}"]
    cells = composed("schedule=short,long", "seed=0,1", config_dir="mine", config_name=name)
    assert [(cell.config["max_steps"], cell.config["batch_size"]) for cell in cells] == [(3, 4)] * 2 + [
        (5, 4)
    ] * 2
    assert forethought("train", *flags, "--cfg=job", "--package=batch_size").stdout.strip() == "4"
    words = [word for word in TINY if not word.startswith("experiment")]
    small = ["evaluation.validation_samples=8", "evaluation.test_samples=8", "hydra.run.dir=run"]
    assert run(["train", *flags, *words, *small]) == 0
    assert run(["resume", "run", "max_steps=4"]) == 0


def test_not_identity_names_root_keys():
    root = OmegaConf.load(CONF / "config.yaml")
    groups = {path.name for path in CONF.iterdir() if path.is_dir()}
    assert {*map(str, root), *groups} >= NOT_IDENTITY


def test_a_file_with_one_of_our_names_is_refused(workplace, monkeypatch):
    """Hydra would read ours in its place. A copy of ours does no harm, nor does a name of the user's own."""
    shutil.copytree(CONF, "mine")
    Path("mine/optimizer/lion.yaml").write_text("_target_: torch.optim.SGD\n")
    (cell,) = composed("optimizer=lion", config_dir="mine")
    assert cell.choices["optimizer"] == "lion"
    package = Path("package_of_configs")
    monkeypatch.syspath_prepend(workplace)
    for name in ("optimizer/adamw", "objective/next_token", "hydra/launcher/pool", "config"):
        path = package / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("_target_: torch.optim.SGD\n")
        for folder in (package, package / "optimizer"):
            (folder / "__init__.py").touch() if folder.is_dir() else None
        for options in (
            {"config_dir": str(package)},
            {"words": [f"hydra.searchpath=[file://{package.absolute()}]"]},
            {"words": [f"hydra.searchpath=[{package}]"]},
            {"words": ["hydra.searchpath=[pkg://package_of_configs]"]},
        ):
            monkeypatch.syspath_prepend(workplace)
            words = options.pop("words", [])
            with pytest.raises(InputError, match=f"{package}: {name}.yaml"):
                composed(*words, **options)
        path.unlink()
