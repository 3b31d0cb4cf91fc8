"""Base of objectives that add a loss to next-token prediction, and the pass of the model that they share."""

from abc import abstractmethod
from collections.abc import Set
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from forethought.objectives.base import Objective
from forethought.objectives.next_token import NextToken
from forethought.tasks import Batch

Needs = Literal["answer", "all", "raw", "trunk"]


class States:
    """Hidden states of one pass over prompt and true answer, T = P + A tokens, as far as they are needed.

    Args:
        needs: names of the attributes to be read beside `answer`.

    Attributes:
        answer: (B, A, D); position i predicts y_i.
        all: (B, T, D).
        raw: (B, T, D), before the last norm.
        trunk: (B, T, D), those that enter the model's last layer.
    """

    def __init__(self, objective: Objective, batch: Batch, needs: Set[Needs]) -> None:
        self._logits = objective.model.logits
        tokens, length = torch.cat([batch.prompt, batch.answer], 1), batch.answer.shape[1]
        if needs <= {"answer"}:  # the last layer may skip the prompt
            self.answer = objective.read(tokens[:, :-1], batch.prompt, length)
            return
        inputs, layers = tokens, None
        if "trunk" in needs:
            *first, last = objective.model.layers
            self.trunk = objective.read(tokens, batch.prompt, layers=first, norm=False)
            inputs, layers = self.trunk, [last]
        count = tokens.shape[1] if needs & {"all", "raw"} else length + 1
        raw = objective.read(inputs, batch.prompt, count, layers=layers, norm=False)
        hidden = objective.model.norm(raw)
        if count == tokens.shape[1]:
            self.raw, self.all = raw, hidden
        self.answer = hidden[:, -length - 1 : -1]

    @cached_property
    def logits(self) -> Float[Tensor, "B A V"]:
        """The logits of the answer."""
        return self._logits(self.answer)


class AddedLoss(NextToken):
    """Base of objectives whose loss is that of next-token prediction and another one on the same states.

    `Mixture` adds several of them up after one pass of the model.
    """

    needs: Needs = "answer"
    """The states that `added_loss` reads."""

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        states = States(self, batch, {self.needs})
        return self.answer_loss(states.logits, batch) + self.added_loss(states, batch)

    @abstractmethod
    def added_loss(self, states: States, batch: Batch) -> Float[Tensor, ""]:
        """Return what the loss has beside that of next-token prediction."""

    def ahead_loss(self, hidden: Float[Tensor, "B S D"], batch: Batch, n: int) -> Float[Tensor, ""]:
        """Return the cross-entropy of y_n … y_A, divided by A, from the states n positions before each.

        The last one of the states is that before y_A.
        """
        target = batch.answer[:, n - 1 :]
        logits = self.model.logits(hidden[:, -target.shape[1] :])
        return self.cross_entropy(logits, target, "sum") / self.count(batch.answer)
