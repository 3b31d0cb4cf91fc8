"""Likelihood of answers under a model, and under the task's own distribution if it is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from forethought.tasks import Batch, Task

if TYPE_CHECKING:
    from forethought.objectives import Objective


def likelihoods(
    objective: Objective, task: Task, batch: Batch, written: Int[Tensor, "B A"]
) -> dict[str, Float[Tensor, " _"]]:
    """Return the values whose means are these metrics, in nats unless they are probabilities.

    The model's distribution q is that at temperature 1 without `$`, whatever the decoding.

    * `written_loss`: -log q of each written token, given the tokens written before it.
    * `written_entropy`: entropy of q at each written token.
    * `written_true_loss`: -log p of each written answer under the task's distribution p, divided by its
      number of tokens. Impossible answers are left out.
    * `kl_from_truth`: Σ_i KL(p(y_i | x, y_<i) || q(y_i | x, y_<i)) over the positions of each row's answer y.
      If the answers are samples from p, its mean is the KL of whole answers.
    * `likelihood_<name>`: q of each answer of `Task.named_answers`.
    * `true_likelihood_<name>`: p of the same answers.

    Those of p are absent if the task does not know it.

    Args:
        objective: one whose logits depend on the prompt and the tokens before alone (`teacher_forced`).
        batch: the rows.
        written: the answers that the model wrote to their prompts.
    """
    is_written = written != task.dummy
    logs = _log_probabilities(objective, task, Batch(batch.prompt, written))
    values = {
        "written_loss": -_of_answer(logs, written)[is_written],
        "written_entropy": torch.special.entr(logs.exp()).sum(2)[is_written],
    }
    truth = task.log_probability(batch.prompt, written)
    if truth is not None:
        values["written_true_loss"] = (-truth / is_written.sum(1))[truth > -torch.inf]
    true_next = task.next_probabilities(batch)
    true_next = task.targets(batch) if true_next is None else true_next
    if true_next is not None:
        p = true_next[..., : task.dummy].double()
        ratios = p.log() - _log_probabilities(objective, task, batch)
        divergences = (p * ratios).where(p > 0, 0).sum(2)
        values["kl_from_truth"] = divergences.where(batch.answer != task.dummy, 0).sum(1)
    for name, answer in task.named_answers(batch).items():
        logs = _log_probabilities(objective, task, Batch(batch.prompt, answer))
        values[f"likelihood_{name}"] = _of_answer(logs, answer).sum(1).exp()
        truth = task.log_probability(batch.prompt, answer)
        if truth is not None:
            values[f"true_likelihood_{name}"] = truth.exp()
    return values


def _log_probabilities(objective: Objective, task: Task, batch: Batch) -> Float[Tensor, "B A W"]:
    """Return log q of every token but `$`, which is never written."""
    return objective.answer_logits(batch)[..., : task.dummy].double().log_softmax(2)


def _of_answer(logs: Float[Tensor, "B A W"], answer: Int[Tensor, "B A"]) -> Float[Tensor, "B A"]:
    """Return the entries of the answer's tokens, and 0 for padding."""
    tokens = answer.clamp(max=logs.shape[2] - 1)
    return logs.gather(2, tokens[..., None])[..., 0].where(answer <= tokens, 0)
