"""Every metric of a trained model on given rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from forethought.evaluation.creativity import creativity
from forethought.evaluation.decoding import GREEDY, Decoding
from forethought.evaluation.likelihood import likelihoods
from forethought.tasks import Batch, Data, Draws, Task, evaluation_rows

if TYPE_CHECKING:
    from forethought.objectives import Objective


@torch.inference_mode()
def diagnose(
    objective: Objective,
    task: Task,
    rows: Batch,
    decoding: Decoding = GREEDY,
    chunk: int | None = None,
    clever_hans: bool = True,
    data: Data | None = None,
) -> dict[str, float]:
    """Return metrics by name (docs/REPORT.md), without their `test/` or `val/`.

    Args:
        task: the task of the rows; it may be another one than the objective was trained on.
        rows: B rows.
        decoding: writes the answers.
        chunk: rows that are read at a time; None: `evaluation_rows`.
        clever_hans: also hand the model other answer tokens than the true ones, for the Clever Hans test
            and for likelihoods. It costs two more decodings and at least two more readings of an answer;
            each prompt is read once (`Objective.reads_once`).
        data: of the run that trained the objective, for `creativity`; None: unknown.
    """
    training = objective.training
    objective.eval()
    diagnosis = Diagnosis(objective, task, decoding, clever_hans, data)
    chunk = chunk or evaluation_rows(task)
    for start in range(0, len(rows), chunk):
        diagnosis.update(rows[start : start + chunk].to(objective.device))
    objective.train(training)
    return diagnosis.compute()


class Diagnosis:
    """Accumulators of all metrics, with the `update` and `compute` of a torchmetrics metric.

    A `torchmetrics.Metric` must name its states beforehand; these names follow from the task's strata and
    outcomes and from the objective. Metrics without a meaning for a task or objective are absent, such as
    the teacher-forced ones of an objective that reads no answer.

    Args: as of `diagnose`.
    """

    def __init__(
        self,
        objective: Objective,
        task: Task,
        decoding: Decoding = GREEDY,
        clever_hans: bool = True,
        data: Data | None = None,
    ) -> None:
        self.objective, self.task = objective, task
        self.decoding, self.clever_hans, self.data = decoding, clever_hans, data
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}
        self.accepted: list[Tensor] = []
        """Canonical keys of the accepted answers. Repetitions are only known once all answers are."""

    def update(self, batch: Batch) -> None:
        """Add rows. The model must be in evaluation mode."""
        # Decoding has too many shapes to be worth compiling, even where training is compiled. Training in
        # bf16 is evaluated in fp32, so that a verdict does not depend on rounding.
        full_precision = torch.autocast(batch.prompt.device.type, enabled=False)
        once = self.objective.reads_once(batch.prompt, batch.answer.shape[1])
        with torch.compiler.set_stance("force_eager"), full_precision, once:
            # Asked once: a task may search for every right continuation.
            accepted = self.task.accepted(batch)
            written = self._free_running(batch, accepted)
            self._teacher_forced(batch, accepted)
            for name, values in self.objective.diagnostics(batch, self.task).items():
                self._add(name, values)
            if self.clever_hans and self.objective.teacher_forced:
                self._clever_hans(batch, accepted)
                for name, values in likelihoods(self.objective, self.task, batch, written).items():
                    self._add(name, values)

    def compute(self, gather: Callable[[Tensor], Tensor] | None = None) -> dict[str, float]:
        """Return the mean of every metric, and the metrics of the set of answers.

        A mean over no values is left out.

        Args:
            gather: joins the vectors of all processes of a DDP run, which may differ in length.
        """
        totals = torch.stack([*self.sums.values()])
        counts = torch.tensor([*self.counts.values()], dtype=totals.dtype, device=totals.device)
        both = torch.stack([totals, counts])
        if gather is not None:
            both = gather(both.flatten()).view(-1, *both.shape).sum(0)
        sums, sizes = (dict(zip(self.sums, values, strict=True)) for values in both.tolist())
        means = {name: sums[name] / size for name, size in sizes.items() if size}
        if self.accepted:
            keys = torch.cat(self.accepted)
            keys = keys if gather is None else gather(keys)
            means |= creativity(self.task, keys, int(sizes["accuracy"]), self.data)
        return {**means, "chance": self.task.chance, "decision_chance": self.task.decision_chance}

    def _add(self, name: str, values: Tensor) -> None:
        self.sums[name] = self.sums.get(name, 0.0) + values.double().sum()
        self.counts[name] = self.counts.get(name, 0) + values.numel()

    def _add_positions(self, name: str, values: Tensor, written: Tensor) -> None:
        for position, (column, mask) in enumerate(zip(values.unbind(1), written.unbind(1), strict=True), 1):
            self._add(f"{name}_{position}", column[mask])

    def _free_running(self, batch: Batch, accepted: Bool[Tensor, "B A V"] | None) -> Int[Tensor, "B A"]:
        """Add accuracy, error anatomy and strata of answers for which the model reads its own tokens.

        Return these answers.
        """
        answer = self._generate(batch)
        outcome = self.task.check(batch.prompt, answer)
        right = outcome == 0
        self._add("accuracy", right)
        keys = self.task.canonical(batch.prompt, answer)
        if keys is not None:
            self.accepted.append(keys[right])
        self._add_positions(
            "token_accuracy", is_right(answer, batch, accepted), batch.answer != self.task.dummy
        )
        for index, kind in enumerate(self.task.outcomes[1:], 1):
            self._add(f"error_{kind}", outcome == index)
        for name, share in self.task.shares(batch.prompt, answer).items():
            self._add(name, share)
        for name, stratum in self.task.strata(batch).items():
            for number in range(self.task.strata_sizes[name]):
                self._add(f"accuracy_{name}_{number}", right[stratum == number])
        return answer

    def _teacher_forced(self, batch: Batch, accepted: Bool[Tensor, "B A V"] | None) -> None:
        """Add the deciding tokens, and all tokens given the true ones before them."""
        logits = self.objective.answer_logits(batch)[..., : self.task.dummy]
        deciding, written = self.task.decision_mask(batch), batch.answer != self.task.dummy
        right = is_right(logits.argmax(2), batch, accepted)
        self._add("decision_accuracy", right[deciding])
        if accepted is None:
            accepted = F.one_hot(batch.answer, len(self.task.vocabulary)).bool()
        self._add("decision_margin", margin(logits[deciding], accepted[deciding][:, : self.task.dummy]))
        if self.objective.teacher_forced:
            answer = batch.answer.where(written, -100)
            losses = F.cross_entropy(logits.transpose(1, 2).float(), answer, reduction="none")
            self._add("forced_loss", losses[written])
            # Empty answers, to a prompt with no known one, are neither right nor wrong.
            self._add("forced_accuracy", (right | ~written).all(1)[written.any(1)])
            self._add("forced_local_accuracy", right[written & ~deciding])
            self._add_positions("forced_token_accuracy", right, written)
            if self.clever_hans:  # not in the curves, whose columns are many enough
                self._add_positions("forced_loss", losses, written)

    def _clever_hans(self, batch: Batch, accepted: Bool[Tensor, "B A V"] | None) -> None:
        """Hand the model the right decision, then a wrong one: does it merely follow?

        Before, hand it an answer that is not the row's: which tokens are right without the row's own?

        Source: Bachmann & Nagarajan, ICML 2024, §4. Each row is handed all tokens up to its own last
        decision. Rows without a decision take no part.
        """
        # The same answer for all rows: a metric of a row must not depend on the rows beside it.
        foreign = self.task.sample(1, Draws(0, "blind", device=batch.answer.device)).answer
        foreign_rows = Batch(batch.prompt, foreign.expand_as(batch.answer))
        blind = self.objective.answer_logits(foreign_rows)[..., : self.task.dummy].argmax(2)
        deciding = self.task.decision_mask(batch)
        local = (batch.answer != self.task.dummy) & ~deciding
        self._add("blind_local_accuracy", is_right(blind, batch, accepted)[local])
        wrong = self.task.distract(batch)
        if wrong is None or self.task.following is None:
            return
        handed = (deciding * torch.arange(1, deciding.shape[1] + 1, device=deciding.device)).amax(1)
        followed = self.task.outcomes.index(self.task.following)
        for name, given, outcome in (
            ("given_decision_accuracy", batch.answer, 0),
            ("follows_wrong_decision", wrong, followed),
        ):
            # In a DDP run, every process must have the same names, also without such rows.
            self._add(name, handed[:0])
            for length in handed[handed > 0].unique().tolist():
                rows = batch[handed == length]
                answer = self._generate(rows, given[handed == length, :length])
                self._add(name, self.task.check(rows.prompt, answer) == outcome)

    def _generate(self, batch: Batch, prefix: Int[Tensor, "B G"] | None = None) -> Int[Tensor, "B A"]:
        return self.decoding.generate(self.objective, batch.prompt, batch.answer.shape[1], prefix)


def is_right(
    answer: Int[Tensor, "B A"], batch: Batch, accepted: Bool[Tensor, "B A V"] | None
) -> Bool[Tensor, "B A"]:
    """Return which tokens of an answer are `accepted`, or those of the batch; `$` never is."""
    if accepted is None:
        return answer == batch.answer
    found = accepted.gather(2, answer[..., None])[..., 0]
    return found & (answer != accepted.shape[2] - 1)


def margin(logits: Float[Tensor, "N W"], right: Bool[Tensor, "N W"]) -> Float[Tensor, " N"]:
    """Return the best right token's logit minus the best wrong one's."""
    best_right = logits.masked_fill(~right, -torch.inf).amax(1)
    return best_right - logits.masked_fill(right, -torch.inf).amax(1)
