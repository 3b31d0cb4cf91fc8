"""Every metric of a trained model on given rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from forethought.objectives import Objective
from forethought.tasks import Batch


@torch.inference_mode()
def diagnose(
    objective: Objective,
    rows: Batch,
    temperature: float = 0.0,
    chunk: int = 2000,
    clever_hans: bool = True,
) -> dict[str, float]:
    """Metrics by name (docs/METRICS.md), without their `test/` or `val/`.

    Metrics that mean nothing for this task or objective are absent: the teacher-forced ones and the
    Clever Hans test for an objective that reads no answer, for instance.

    Args:
        rows: B rows; they are read in pieces of `chunk`.
        temperature: 0 decodes greedily.
        clever_hans: also hand the model a right and a wrong decision, which costs two more decodings.
    """
    training = objective.training
    objective.eval()
    means = _Means()
    # Decoding has too many shapes to be worth compiling, even where training is compiled.
    with torch.compiler.set_stance("force_eager"):
        for start in range(0, len(rows), chunk):
            batch = rows[start : start + chunk].to(objective.device)
            _free_running(means, objective, batch, temperature)
            _teacher_forced(means, objective, batch)
            for name, values in objective.diagnostics(batch).items():
                means.add(name, values)
            if clever_hans and objective.teacher_forced:
                _clever_hans(means, objective, batch, temperature)
    objective.train(training)
    task = objective.task
    return {**means.result(), "chance": task.chance, "decision_chance": task.decision_chance}


class _Means:
    """Running means by name; a mean over nothing is left out."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = defaultdict(int)

    def add(self, name: str, values: Tensor) -> None:
        total = values.double().sum()
        self.sums[name] = self.sums[name] + total if name in self.sums else total
        self.counts[name] += values.numel()

    def add_positions(self, name: str, values: Tensor) -> None:
        for position, column in enumerate(values.unbind(1), 1):
            self.add(f"{name}_{position}", column)

    def result(self) -> dict[str, float]:
        return {name: (total / self.counts[name]).item() for name, total in self._kept()}

    def _kept(self) -> Iterator[tuple[str, Tensor]]:
        return ((name, total) for name, total in self.sums.items() if self.counts[name])


def _free_running(means: _Means, objective: Objective, batch: Batch, temperature: float) -> None:
    """The model reads its own tokens: accuracy, anatomy of the errors, accuracy by kind of row."""
    task = objective.task
    answer = objective.generate(batch.prompt, batch.answer.shape[1], temperature=temperature)
    outcome = task.check(batch.prompt, answer)
    right = outcome == 0
    means.add("accuracy", right)
    means.add_positions("token_accuracy", answer == batch.answer)
    for index, kind in enumerate(task.outcomes[1:], 1):
        means.add(f"error_{kind}", outcome == index)
    for name, members in task.strata(batch).items():
        means.add(f"accuracy_{name}", right[members])


def _teacher_forced(means: _Means, objective: Objective, batch: Batch) -> None:
    """The deciding tokens, and all tokens given the true ones before them."""
    logits = objective.answer_logits(batch)
    deciding = objective.task.decision_mask(batch)
    hits = logits.argmax(2) == batch.answer
    means.add("decision_accuracy", hits[deciding])
    means.add("decision_margin", margin(logits[deciding], batch.answer[deciding]))
    if objective.teacher_forced:
        losses = F.cross_entropy(logits.transpose(1, 2).float(), batch.answer, reduction="none")
        means.add("forced_loss", losses)
        means.add("forced_accuracy", hits.all(1))
        means.add("forced_local_accuracy", hits[~deciding])
        means.add_positions("forced_token_accuracy", hits)


def _clever_hans(means: _Means, objective: Objective, batch: Batch, temperature: float) -> None:
    """Hand the model the right decision, then a wrong one: does it merely follow?

    Source: Bachmann & Nagarajan, ICML 2024, §4. Rows are handed all tokens up to the last position that
    is deciding in any row, so only tasks whose decision stands at a fixed place take part.
    """
    task = objective.task
    wrong = task.distract(batch)
    if wrong is None or task.following is None:
        return
    upto = _last_decision(task.decision_mask(batch)) + 1
    length = wrong.shape[1]
    own = objective.generate(batch.prompt, length, given=batch.answer[:, :upto], temperature=temperature)
    means.add("given_decision_accuracy", task.check(batch.prompt, own) == 0)
    own = objective.generate(batch.prompt, length, given=wrong[:, :upto], temperature=temperature)
    followed = task.outcomes.index(task.following)
    means.add("follows_wrong_decision", task.check(batch.prompt, own) == followed)


def _last_decision(deciding: Bool[Tensor, "B A"]) -> int:
    return int(deciding.any(0).nonzero().max())


def margin(logits: Float[Tensor, "N V"], gold: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
    """The right token's logit minus the best wrong one's."""
    right = logits.gather(1, gold[:, None])
    wrong = logits.scatter(1, gold[:, None], -torch.inf).amax(1, keepdim=True)
    return (right - wrong)[:, 0]
