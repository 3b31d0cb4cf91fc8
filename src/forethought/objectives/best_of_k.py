"""Best of k: train on the best of the model's own answers."""

from typing import Annotated, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field, PositiveFloat
from torch import Tensor

from forethought.models import Model
from forethought.objectives.base import mean_where
from forethought.objectives.next_token import NextToken
from forethought.objectives.sampling import log_likelihood, sample_answers, sampled_metrics
from forethought.tasks import Batch, Task
from forethought.validation import validated


class BestOfK(NextToken):
    """Best of k: next-token prediction of the best of k self-sampled answers.

    For each prompt x, whole answers y^1 … y^k are sampled from the model itself, and the best is kept:

        likelihood    y* = argmax_j log p(y^j | x)                       the model is its own judge
        task          y* = the first one that the task's check accepts; if there is none, x has no loss

        loss = -1/A Σ_i log p(y*_i | x, y*_<i), averaged over the prompts that have one (0 if none has)

    The choice carries no gradient, and the true answers are never read. Judged by likelihood, the model
    learns nothing new: it sharpens towards its likeliest answers, right or wrong; `answer_entropy` and
    `distinct_answers` show the collapse. `init_from` starts from a next-token run. Decoded token by
    token, like next-token prediction.

    Source: task: RAFT, Dong et al. (2304.06767), with a new round at every step; likelihood:
    SFT-Sharpening, Huang et al., "The Sharpening Mechanism" (2412.01951), sampled from the model in
    training and not from a fixed base model.

    Args:
        samples: k, answers a prompt.
        judge: criterion of the best answer.
        temperature: temperature of sampling alone; likelihood and loss use temperature 1.
    """

    @validated
    def __init__(
        self,
        model: Model,
        task: Task,
        samples: Annotated[int, Field(ge=2)] = 8,
        judge: Literal["likelihood", "task"] = "likelihood",
        temperature: PositiveFloat = 1.0,
    ) -> None:
        super().__init__(model, task)
        self.samples, self.judge, self.temperature = samples, judge, temperature

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        best, usable = self.best_answers(batch)
        losses = self.cross_entropy(self.answer_logits(best), best.answer, "none").sum(1)
        means = losses / (best.answer != self.task.dummy).sum(1)
        return mean_where(means, usable)

    @torch.no_grad()
    def best_answers(self, batch: Batch) -> tuple[Batch, Bool[Tensor, " B"]]:
        """Return the best sampled answer to each prompt, and True where it carries a loss."""
        drawn = sample_answers(self, self.task, batch.prompt, self.samples, self.temperature)
        if self.judge == "task":
            right = self.task.check(drawn.prompt, drawn.answer) == 0
            score = torch.where(right, 0.0, -torch.inf)
        else:
            score = log_likelihood(self, drawn).sum(1)
        score, best = score.view(-1, self.samples).max(1)  # Of equal scores, the first wins.
        first = torch.arange(0, len(drawn), self.samples, device=best.device)
        return drawn[first + best], score > -torch.inf

    def diagnostics(self, batch: Batch, task: Task) -> dict[str, Float[Tensor, " B"]]:
        return sampled_metrics(self, task, batch.prompt, self.samples, self.temperature)
