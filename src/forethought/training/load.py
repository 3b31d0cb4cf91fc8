"""A trained run, back from its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from forethought.errors import InputError
from forethought.evaluation import diagnose, verdict
from forethought.objectives import Objective
from forethought.results import read_results, write_atomically
from forethought.run.build import Config, build_objective, build_settings, checkpoint_of, construct
from forethought.run.checkpoint import check_weights, read_checkpoint
from forethought.sweep.identity import fingerprint
from forethought.tasks import Data, Task, derive, held_out


def load_run(folder: Path) -> tuple[Objective, Config]:
    """The trained objective (on the CPU) and the config it was trained with.

    Raises:
        InputError: not the folder of a run with results and a checkpoint.
    """
    results = read_results(folder)
    if results is None:
        raise InputError(f"{folder}: has no results.json; expected the folder of a finished run")
    objective = build_objective(results.config, construct(results.config, "task"))
    path = checkpoint_of(folder)
    weights = read_checkpoint(path)["state_dict"]
    check_weights(objective, weights, path)
    objective.load_state_dict(weights)
    return objective, results.config


def evaluate_run(folder: Path, config: Config, overrides: list[str]) -> tuple[dict[str, Any], Path]:
    """Metrics on other data, as they were written to the file beside the run whose path comes second.

    `held_out_share` is the share of rows that the run cannot have trained on: 1 for rows that the task
    draws for the test and for the run's own test file, about 1/8 for a file that it did not know of.

    Args:
        config: the run's config with `overrides` applied to `task`, `evaluation`, `hardware` or `seed`.

    Raises:
        InputError: the task cannot be, or the model does not know its tokens.
    """
    objective, trained = load_run(folder)
    task = construct(config, "task")
    _refuse_other_tokens(objective.task, task)
    objective.task = task
    settings = build_settings(config)
    hardware = construct(config, "hardware")
    data = Data(task, settings.seed, settings.batch_size, hardware.device)
    rows = data.test(settings.evaluation.test_samples)
    tokens = len(rows) * (task.prompt_length + task.answer_length)
    hardware, _ = hardware.fitted(objective.model, tokens, steps=1)
    hardware.limit_threads()
    torch.manual_seed(derive(settings.seed, "test"))
    own_file = task.test_file is not None and task.test_file == trained["task"].get("test_file")
    unseen = 1.0 if own_file else held_out(task, rows).double().mean().item()
    metrics = diagnose(objective.to(hardware.device), rows, settings.evaluation.temperature)
    named = {f"test/{name}": value for name, value in metrics.items()}
    report = {
        "overrides": overrides,
        "rows": len(rows),
        "held_out_share": unseen,
        "verdict": verdict(metrics, settings.solve_threshold),
        "metrics": named,
    }
    path = folder / "evaluations" / f"{fingerprint(config)}.json"
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, json.dumps(report, indent=2) + "\n")
    return report, path


def _refuse_other_tokens(trained: Task, wanted: Task) -> None:
    if trained.vocabulary != wanted.vocabulary:
        raise InputError(
            f"task: its {len(wanted.vocabulary)} tokens are not the {len(trained.vocabulary)} that this "
            "run's model knows; expected a task with the same vocabulary (for path_star: task.num_nodes)"
        )
