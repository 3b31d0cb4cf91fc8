"""Load a trained run from its folder, and evaluate it on other data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from forethought.errors import InputError
from forethought.evaluation import (
    EXAMPLES,
    diagnose,
    name_probes,
    probe_answers,
    round_table,
    show_examples,
    verdict,
)
from forethought.objectives import Objective
from forethought.results import read_results, write_atomically
from forethought.sweeps import fingerprint
from forethought.tasks import Data, Task, derive_seed, held_out
from forethought.training.build import build_objective, build_settings
from forethought.training.checkpoint import check_weights, checkpoint_of, read_checkpoint
from forethought.training.construct import Config, construct


def load(folder: Path | str) -> Objective:
    """Return the trained objective of a run, on the CPU.

    Raises:
        InputError: not the folder of a run with results and a checkpoint.
    """
    return _load(Path(folder))[0]


def _load(folder: Path) -> tuple[Objective, Config]:
    results = read_results(folder)
    if results is None:
        raise InputError(f"{folder}: has no results.json; pass the folder of a finished run")
    objective = build_objective(results.config, construct(results.config, "task"))
    path = checkpoint_of(folder)
    weights = read_checkpoint(path)["state_dict"]
    check_weights(objective, weights, path)
    objective.load_state_dict(weights)
    return objective, results.config


def evaluate_run(folder: Path, config: Config, overrides: list[str]) -> dict[str, Any]:
    """Measure a trained run on other data.

    Args:
        config: the run's config with `overrides` applied to `task`, `evaluation`, `hardware` or `seed`.

    Returns:
        the report. `held_out_share` is the share of rows that the run cannot have trained
        on: 1 for rows that the task draws for the test and for the run's own test file, about 1/8 for a
        file that it did not know.

    Raises:
        InputError: the task is impossible, or the model does not know its tokens.
    """
    objective, trained = _load(folder)
    task = construct({"task": _as_trained(config["task"], trained["task"], objective.task)}, "task")
    _refuse_other_tokens(objective.task, task)
    settings = build_settings(config)
    hardware = construct(config, "hardware")
    data = Data(task, settings.seed, settings.batch_size, hardware.device)
    own = Data(objective.task, trained["seed"], trained["batch_size"], hardware.device)
    rows = data.test(settings.evaluation.test_samples)
    length = task.prompt_length + task.answer_length
    hardware, _ = hardware.fitted(objective, len(rows), length, 1, settings.precision)
    hardware.set_up(objective)
    torch.manual_seed(derive_seed(settings.seed, "test"))
    own_file = task.test_file is not None and task.test_file == trained["task"].get("test_file")
    unseen = 1.0 if own_file else held_out(task, rows).double().mean().item()
    metrics = diagnose(objective.to(hardware.device), task, rows, settings.evaluation, data=own)
    probed = settings.evaluation.probe_samples
    probes = probe_answers(objective, data.probe(probed), rows) if probed else None
    return {
        "overrides": overrides,
        "rows": len(rows),
        "instances": len(task.fingerprint(rows).unique()),
        "held_out_share": unseen,
        "verdict": verdict(metrics, settings.solve_threshold, task.needs_plan, task.goal),
        "metrics": {f"test/{name}": value for name, value in metrics.items()} | name_probes(probes),
        "probes": round_table(probes),
        "examples": [
            example.model_dump()
            for example in show_examples(objective, task, rows[:EXAMPLES], settings.evaluation)
        ],
    }


def write_evaluation(folder: Path, config: Config, report: dict[str, Any]) -> Path:
    """Write the report of `evaluate_run` beside the run. Return its path."""
    path = folder / "evaluations" / f"{fingerprint(config)}.json"
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, json.dumps(report, indent=2) + "\n")
    return path


def _as_trained(wanted: Config, trained: Config, task: Task) -> Config:
    """Fill in the `num_nodes` that the trained task decided for a null: the model knows those names.

    All other nulls are decided anew. `min_path_length` of the training would exceed a shorter `path_length`.
    """
    key = "num_nodes"
    if key in wanted and wanted[key] is None and trained.get(key) is None:
        return wanted | {key: getattr(task, key, None)}
    return wanted


def _refuse_other_tokens(trained: Task, wanted: Task) -> None:
    if trained.vocabulary != wanted.vocabulary:
        raise InputError(
            f"task: its {len(wanted.vocabulary)} tokens are not the {len(trained.vocabulary)} that this "
            "run's model knows; use a task with the same vocabulary (for path_star: task.num_nodes)"
        )
