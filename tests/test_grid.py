"""Every choice in conf/ goes with every other: found by itself, run for a few steps."""

import itertools

import pytest
import torch
from helpers import choices

from forethought.config import Composer
from forethought.errors import Impossible
from forethought.evaluation import diagnose
from forethought.results import read_results
from forethought.tasks import Data
from forethought.training import check, load_run, run_cell

GROUPS = ("task", "model", "objective")
CHOICES = {group: choices(group) for group in GROUPS}
SMALL = ["experiment=smoke", "max_steps=4", "eval_every=2", "log_every=2"]


def every_pair():
    """The fewest combinations, greedily, in which every pair of choices of two groups occurs."""
    product = list(itertools.product(*CHOICES.values()))

    def pairs(combination):
        return set(itertools.combinations(zip(GROUPS, combination, strict=True), 2))

    # The GPT refuses nothing, so every task has met every objective whatever the other models refuse.
    chosen = [combination for combination in product if combination[1] == "gpt"]
    missing = set().union(*map(pairs, product)) - set().union(*map(pairs, chosen))
    while missing:
        best = max(product, key=lambda combination: len(pairs(combination) & missing))
        chosen.append(best)
        missing -= pairs(best)
    return chosen


def exercise(task, model, objective, folder, overrides):
    """Train, checkpoint, reload, generate, evaluate."""
    choices = [f"task={task}", f"model={model}", f"objective={objective}"]
    (cell,) = Composer([*choices, *SMALL, *overrides]).cells()
    cell.folder = folder
    try:
        check(cell.config)
    except Impossible as error:
        pytest.skip(f"refused: {error}")
    results = run_cell(cell)
    assert results.status == "finished", results.reason
    assert read_results(folder) == results
    loaded, _ = load_run(folder)
    data = Data(loaded.task, results.seed, 16)
    rows = data.test(results.config["evaluation"]["test_samples"])
    answer = loaded.generate(rows.prompt, loaded.task.answer_length)
    assert answer.shape == rows.answer.shape
    assert answer.dtype == torch.int64
    again = {f"test/{name}": value for name, value in diagnose(loaded, rows).items()}
    assert again == results.metrics


@pytest.mark.parametrize(("task", "model", "objective"), every_pair())
def test_every_pair_of_choices(tmp_path, needed, task, model, objective):
    exercise(task, model, objective, tmp_path, needed(model))


@pytest.mark.grid
@pytest.mark.parametrize(("task", "model", "objective"), list(itertools.product(*CHOICES.values())))
def test_every_combination(tmp_path, needed, task, model, objective):
    exercise(task, model, objective, tmp_path, needed(model))


@pytest.mark.parametrize("mask", ["causal", "prefix", "full"])
@pytest.mark.parametrize("objective", CHOICES["objective"])
def test_every_mask_trains_or_is_refused_by_name(tmp_path, objective, mask):
    (cell,) = Composer([f"objective={objective}", f"model.mask={mask}", *SMALL]).cells()
    cell.folder = tmp_path
    try:
        check(cell.config)
    except Impossible as error:
        refusal = str(error)
    else:
        assert run_cell(cell).status == "finished"
        return
    assert f"model.mask={mask}" in refusal


def test_the_choices_are_found():
    assert {"path_star", "addition"} <= set(CHOICES["task"])
    assert "gpt" in CHOICES["model"]
    assert {"next_token", "teacherless"} <= set(CHOICES["objective"])
