"""Choices in conf/ work together: a contract check of combinations, one run of each objective and model."""

import itertools

import pytest
import torch
from helpers import choices, chosen, tasks

from forethought.config import Composer
from forethought.errors import Impossible
from forethought.evaluation import diagnose
from forethought.results import read_results
from forethought.tasks import Data, Draws
from forethought.training import check, load, run_cell

GROUPS = ("task", "model", "objective")
CHOICES = {group: choices(group) for group in GROUPS} | {"task": tasks()}
PADDED = "junction_star"  # pads prompts and answers
KINDS = ("masked_diffusion", "policy_gradient")  # written at once, sampled token by token
SIZE = {"layers": 2, "width": 16, "heads": 2}
SMALL = ["experiment=smoke", "max_steps=4", "eval_every=2", "log_every=2"]


def marks(task, model, objective):
    """Return no mark for a combination of the fast run, else the mark of the run that has it.

    Fast: each objective on a task that pads, and each task with one objective. Slow: each task with each
    objective, and each model with each task and each objective. Grid: the rest of the product.
    """
    if model == "gpt":  # the one model that supports every objective
        return [] if task == PADDED or objective == "policy_gradient" else [pytest.mark.slow]
    steps = sum(
        CHOICES[group].index(name) for group, name in zip(GROUPS, (task, model, objective), strict=True)
    )
    return [pytest.mark.slow if steps % len(CHOICES["task"]) == 0 else pytest.mark.grid]


def build(task, model, objective, seed, **model_options):
    """Build an objective from the YAML files, with a small model."""
    (task_type, sizes), (objective_type, options) = chosen("task", task), chosen("objective", objective)
    model_type, defaults = chosen("model", model)
    small = {key: value for key, value in SIZE.items() if key in defaults}
    task = task_type(**sizes)
    extra = objective_type.extra_positions(task, **options)
    torch.manual_seed(seed)
    return objective_type(
        model_type.for_task(task, extra, **defaults | small | model_options), task, **options
    )


def check_contract(*names, **model_options):
    """Loss, backward, decoding, state dict and metrics, of eight rows."""
    try:
        objective, other = (build(*names, seed, **model_options).eval() for seed in (0, 1))
    except Impossible as error:
        pytest.skip(f"rejected: {error}")
    task = objective.task
    rows = task.sample(8, Draws(0))
    loss = objective.loss(task.sample_training(8, Draws(1)))
    loss.backward()
    assert loss.isfinite()
    gradients = [p.grad for p in objective.parameters() if p.requires_grad and p.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)
    with torch.no_grad():
        answer = objective.generate(rows.prompt, task.answer_length)
    assert answer.shape == rows.answer.shape
    assert answer.dtype == torch.int64
    other.load_state_dict(objective.state_dict())
    metrics = [
        (torch.manual_seed(0), diagnose(trained, trained.task, rows))[1] for trained in (objective, other)
    ]
    assert metrics[0] == metrics[1]
    shares = [value for name, value in metrics[0].items() if name.startswith("error_")]
    assert metrics[0]["accuracy"] + sum(shares) == pytest.approx(1)


@pytest.mark.parametrize(
    ("task", "model", "objective"),
    [pytest.param(*names, marks=marks(*names)) for names in itertools.product(*CHOICES.values())],
)
@pytest.mark.slow
def test_every_combination(needed_options, task, model, objective):
    check_contract(task, model, objective, **needed_options(model))


@pytest.mark.parametrize("mask", ["prefix", "full"])
@pytest.mark.parametrize("objective", CHOICES["objective"])
def test_every_mask(objective, mask):
    check_contract("path_star", "gpt", objective, mask=mask)


def train(folder, *words):
    """Train, save, test, load, and test again."""
    (cell,) = Composer([*SMALL, *words]).cells()
    try:
        check(cell.config)
    except Impossible as error:
        pytest.skip(f"rejected: {error}")
    results = run_cell(cell.at(folder))
    assert results.status == "finished", results.reason
    assert read_results(folder) == results
    loaded = load(folder)
    rows = Data(loaded.task, results.seed, 16).test(results.config["evaluation"]["test_samples"])
    again = {f"test/{name}": value for name, value in diagnose(loaded, loaded.task, rows).items()}
    assert again == results.metrics


@pytest.mark.parametrize(
    "objective",
    [pytest.param(name, marks=[pytest.mark.slow] * (name not in KINDS)) for name in CHOICES["objective"]],
)
def test_a_run_of_every_objective(tmp_path, objective):
    train(tmp_path, f"objective={objective}", "model.layers=2", "model.width=16")


@pytest.mark.parametrize("model", CHOICES["model"])
@pytest.mark.slow
def test_a_run_of_every_model(tmp_path, needed_options, model):
    options = {key: value for key, value in SIZE.items() if key in chosen("model", model)[1]}
    options |= needed_options(model)
    train(
        tmp_path,
        "task=addition",
        f"model={model}",
        *(f"model.{key}={value}" for key, value in options.items()),
    )


def test_the_choices_are_found():
    assert {"path_star", "addition"} <= set(CHOICES["task"])
    assert "gpt" in CHOICES["model"]
    assert {"next_token", "teacherless"} <= set(CHOICES["objective"])


def test_a_task_of_the_fast_run_pads_prompts_and_answers():
    (task_type, sizes) = chosen("task", PADDED)
    task = task_type(**sizes)
    rows = task.sample(8, Draws(0))
    assert (rows.prompt == task.dummy).any()
    assert (rows.answer == task.dummy).any()
