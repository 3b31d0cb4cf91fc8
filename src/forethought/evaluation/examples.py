"""A few rows with the model's own answers, for people to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from forethought.evaluation.decoding import GREEDY, Decoding
from forethought.results import Example
from forethought.tasks import Batch, Task

if TYPE_CHECKING:
    from forethought.objectives import Objective


EXAMPLES = 8
"""Rows of a test that are kept as examples."""


@torch.inference_mode()
def show_examples(
    objective: Objective, task: Task, rows: Batch, decoding: Decoding = GREEDY
) -> list[Example]:
    """Return one example for each of the given rows; arguments as of `diagnose`."""
    training = objective.training
    objective.eval()
    rows = rows.to(objective.device)
    with torch.compiler.set_stance("force_eager"):
        answers = decoding.generate(objective, rows.prompt, rows.answer.shape[1])
    objective.train(training)

    return [
        Example(
            text=task.text(prompt, truth),
            truth=task.names(truth),
            answer=task.names(answer),
            outcome=task.outcomes[outcome],
            drawing=task.drawing(prompt),
        )
        for prompt, truth, answer, outcome in zip(
            rows.prompt.cpu(),
            rows.answer.cpu(),
            answers.cpu(),
            task.check(rows.prompt, answers).tolist(),
            strict=True,
        )
    ]
