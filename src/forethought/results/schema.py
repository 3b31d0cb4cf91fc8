"""The schema of `results.json`."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

RESULTS_FILE = "results.json"
SCHEMA_VERSION: Literal[1] = 1

Status = Literal["finished", "failed", "interrupted"]
Verdict = Literal["solved", "shortcut", "guessing", "undertrained", "partial"]

TO_SOLVE = ("steps_to_solve", "seconds_to_solve", "flops_to_solve")
MEASURES = (*TO_SOLVE, "steps", "samples_seen", "wall_seconds", "training_flops", "parameters")
"""Numeric fields of `Results` that can be plotted and filtered like metrics."""


class Example(BaseModel):
    """One test row with the model's own answer, for people to look at."""

    text: str = Field(description="the row with its true answer, in the task's text form")
    truth: list[str] = Field(description="names of the true answer's tokens")
    answer: list[str] = Field(description="names of the tokens the model wrote")
    outcome: str = Field(description="`right` or the task's name for this kind of error")
    drawing: dict[str, Any] | None = Field(
        None, description="a graph's edges, start and goal (`Task.drawing`); null for other tasks"
    )


class Stretch(BaseModel):
    """One uninterrupted stretch of training: when, where and with which arithmetic."""

    first_step: int = Field(description="optimiser steps before it")
    last_step: int = Field(description="max_steps of the run")
    began: float = Field(description="seconds since the epoch")
    date: str = Field(description="the same as ISO 8601 in UTC")
    host: str
    cpu: str = Field(description="model of the CPU")
    device: str = Field(description="devices, threads, precision and compilation")
    instructions: str = Field(description="widest CPU instructions that PyTorch uses here, such as AVX2")
    versions: dict[str, str] = Field(description="of python, torch, lightning and forethought")
    command: str | None = Field(None, description="the command line that started it")
    commit: str | None = Field(None, description="git commit of the source; null outside a checkout")
    dirty: bool | None = Field(None, description="true if tracked files differed from the commit")


class Results(BaseModel):
    """The outcome of a run. Written last and atomically: if the file exists, it is whole."""

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[1] = SCHEMA_VERSION
    cell: str = Field(description="name of the cell: readable part, seed, hash of the identity fields")
    sweep: str | None = Field(description="name of the sweep it belongs to; null for a single run")
    choices: dict[str, str] = Field(description="the chosen file of each config group: task, model, …")
    overrides: list[str] = Field(description="the command line's overrides for this cell")
    config: dict[str, Any] = Field(description="the resolved config, nested")
    status: Status
    reason: str | None = Field(None, description="first line of the error; null if finished")
    seed: int
    versions: dict[str, str] = Field(description="of python, torch, lightning and forethought")
    device: str
    stretches: list[Stretch] = Field(default_factory=list, description="every start and resume of the run")
    sources: dict[str, str] = Field(
        default_factory=dict, description="hash of each source file behind a `_target_`, by module"
    )
    optimizer: str | None = Field(
        None,
        description="class of the optimizer that trained; an objective may choose another than the config",
    )
    parameters: int | None = Field(None, description="trainable parameters")
    wall_seconds: float = Field(description="of training, interruptions not counted")
    steps: int = Field(0, description="optimiser steps taken")
    samples_seen: int = Field(0, description="rows drawn for training")
    steps_to_solve: int | None = Field(
        None, description="first evaluation at which validation accuracy reached solve_threshold"
    )
    seconds_to_solve: float | None = Field(None, description="of training, up to the same evaluation")
    training_flops: float | None = Field(
        None,
        description="floating-point operations of all losses and gradients (`training.count_flops`); null if "
        "the loss cannot be computed outside a Trainer",
    )
    flops_to_solve: float | None = Field(None, description="the same, up to `steps_to_solve`")
    verdict: Verdict | None = None
    test_instances: int | None = Field(None, description="different instances among the test rows")
    decision_positions: list[int] = Field(
        default_factory=list,
        description="answer positions (from 1) that are deciding in every test row",
    )
    metrics: dict[str, float] = Field(
        default_factory=dict, description="flat, names as in docs/REPORT.md; absent where meaningless"
    )
    grad_flow: list[list[float]] | None = Field(
        None,
        description="a row for each answer token: norm of the gradient of its teacher-forced loss by the "
        "hidden state at every position (`evaluation.grad_flow`); null where meaningless",
    )
    gradient_split: list[list[float]] | None = Field(
        None,
        description="a row for each layer, from the embedding: norms of the direct, the pre-cached and the "
        "shared part of the gradient at the decision, and the cosine of the first two "
        "(`evaluation.gradient_split`); null where meaningless",
    )
    attention: dict[str, list[list[float]]] | None = Field(
        None,
        description="for each landmark of the prompt, a row for each attention layer: weight that the "
        "position of the decision gives to it, mean over heads and largest head "
        "(`evaluation.attention_at_decision`); null where meaningless",
    )
    probes: list[list[float | None]] | None = Field(
        None,
        description="a row for each position of the prompt: accuracy of linear probes for each answer token "
        "(`evaluation.probe_answers`); null without evaluation.probe_samples, or where meaningless",
    )
    examples: list[Example] = Field(default_factory=list)
