"""Synthetic results for the tests of the report, without training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from forethought import load_sweep
from forethought.report import Sweep, build_sweep, write_report
from forethought.results import Example, Results, write_curves
from forethought.results.frame import build_frame

STAR = {"edges": [["5", "2"], ["2", "8"], ["5", "9"], ["9", "3"]], "start": "5", "goal": "8"}
CURVES = [{"step": 250.0 * i, "train/loss": 1 / i, "val/accuracy": 0.1 * i} for i in range(1, 9)]


def make_metrics(verdict: str, degree: int = 2, forced: bool = True) -> dict[str, float]:
    chance = 1 / degree
    accuracy = {"solved": 1.0, "shortcut": chance, "partial": 0.7, "undertrained": 0.01}[verdict]
    values = {
        "test/accuracy": accuracy,
        "test/decision_accuracy": accuracy,
        "test/chance": chance,
        "test/decision_chance": chance,
        "test/error_wrong_arm": 1 - accuracy,
        "test/error_other": 0.0,
    }
    values |= {f"test/token_accuracy_{i}": 1.0 if i == 1 else accuracy for i in range(1, 12)}
    if forced:
        values |= {f"test/forced_token_accuracy_{i}": accuracy if i == 2 else 0.999 for i in range(1, 12)}
        values |= {"test/forced_local_accuracy": 0.999}
    return values


def make_run(
    verdict: str | None = "shortcut",
    seed: int = 0,
    objective: str = "next_token",
    config: dict[str, Any] | None = None,
    overrides: Sequence[str] = (),
    **fields: Any,
) -> Results:
    """Return the results of one run. `config` has the dotted keys that differ from the defaults."""
    nested: dict[str, Any] = {
        "seed": seed,
        "max_steps": 10000,
        "task": {"_target_": "PathStar", "label": "2x4", "degree": 2, "path_length": 4, "reverse": False},
        "model": {"_target_": "GPT", "layers": 3},
        "objective": {"_target_": objective},
        "hardware": {"threads": seed},
    }
    if objective == "teacherless":
        nested["objective"]["next_token_weight"] = 0.0
    for key, entry in (config or {}).items():
        *path, last = key.split(".")
        node = nested
        for part in path:
            node = node[part]
        node[last] = entry
    swept = "-".join(f"{key}={entry}" for key, entry in (config or {}).items())
    example = Example(text="5,2|…", truth=["5", "2", "8"], answer=["5", "9", "3"], outcome="wrong_arm")
    defaults: dict[str, Any] = {
        "cell": f"{objective}-{swept}-s{seed}",
        "sweep": "demo",
        "choices": {"task": "path_star", "model": "gpt", "objective": objective, "hardware": f"h{seed}"},
        "overrides": [f"objective={objective}", *overrides, f"seed={seed}"],
        "config": nested,
        "status": "finished",
        "seed": seed,
        "versions": {"torch": "2.13.0"},
        "device": "cpu",
        "wall_seconds": 60.0,
        "steps": 2500,
        "decision_positions": [2],
        "verdict": verdict,
        "steps_to_solve": 2500 if verdict == "solved" else None,
        "examples": [example.model_copy(update={"drawing": STAR})],
    }
    if verdict:
        defaults["metrics"] = make_metrics(verdict, nested["task"]["degree"], objective != "teacherless")
    return Results(**defaults | fields)


def make_failed(seed: int = 9, reason: str = "ValueError: no <b>luck</b>", **fields: Any) -> Results:
    return make_run(None, seed, status="failed", reason=reason, examples=[], **fields)


def save_runs(folder: Path, runs: Sequence[Results], curves: bool = True) -> Path:
    for run in runs:
        cell = folder / run.cell
        cell.mkdir(parents=True)
        (cell / "results.json").write_text(run.model_dump_json())
        if curves:
            write_curves(cell / "metrics.csv", CURVES)
    return folder


def make_repairs() -> list[Results]:
    return [
        *(make_run("shortcut", seed) for seed in range(2)),
        *(make_run("solved", seed, config={"task.reverse": True}) for seed in range(2)),
        *(make_run(verdict, seed, "teacherless") for seed, verdict in enumerate(("partial", "solved"))),
    ]


def make_sweep(runs: Sequence[Results], where: str | None = None, **axes: str | None) -> Sweep:
    """Return the sweep of results in memory: it has no curves."""
    return build_sweep(build_frame((None, run) for run in runs), where, **axes)


def build_report(folder: Path, **axes: str) -> Path:
    """Write a report as the command line does. Return the path of the page."""
    return write_report(build_sweep(load_sweep(folder), **axes), folder / "report")
