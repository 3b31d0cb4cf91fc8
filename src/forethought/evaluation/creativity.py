"""Creativity: how many of the answers are right, new and different from each other."""

import torch
from jaxtyping import Int
from torch import Tensor

from forethought.tasks import Data, Draws, Task


def creativity(task: Task, accepted: Int[Tensor, " N"], rows: int, data: Data | None) -> dict[str, float]:
    """Return metrics of a set of answers whose accepted ones stand for objects with these keys.

    With T = `rows` answers, each to a prompt of its own,

        diversity            different objects / T
        creativity           different objects that no training row stands for / T
        memorised            answers that stand for an object of a training row / T
        true_creativity      the creativity of T answers that the task draws
        relative_creativity  creativity / true_creativity: 1 for a model that has learned the task's
                             distribution; 0 if the draws hold nothing new

    All but `diversity` require the training set. The set grows more slowly than T. Compare equal T alone.

    Source: creativity as cr in Nagarajan et al., "Roll the dice" (2504.15266), §2.

    Args:
        task: the task of the rows.
        accepted: canonical keys of the N answers that `check` accepts.
        rows: number of answers T.
        data: of the run that trained the model; None: unknown.
    """
    metrics = {"diversity": len(accepted.unique()) / rows}
    trained_on = None if data is None else data.training_set
    if data is None or trained_on is None:
        return metrics
    known = data.task.canonical(trained_on.prompt, trained_on.answer)
    drawn = task.sample(rows, Draws(0, "creativity", device=accepted.device))
    true = task.canonical(drawn.prompt, drawn.answer)
    if known is None or true is None:
        return metrics
    known = known.to(accepted.device)
    metrics["creativity"] = _count_new(accepted, known) / rows
    metrics["memorised"] = torch.isin(accepted, known).sum().item() / rows
    metrics["true_creativity"] = _count_new(true, known) / rows
    possible = metrics["true_creativity"]
    metrics["relative_creativity"] = metrics["creativity"] / possible if possible else 0.0
    return metrics


def _count_new(keys: Int[Tensor, " N"], known: Int[Tensor, " K"]) -> int:
    different = keys.unique()
    return int((~torch.isin(different, known)).sum())
