"""What an objective is: a model trained in one particular way, and decoded in the way that fits."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cache
from typing import Any, ClassVar

import lightning.pytorch as pl
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from forethought.errors import Impossible
from forethought.tasks import Batch, Task


class Objective(pl.LightningModule, ABC):
    """Wraps a model; owns the input layout, the loss and the decoding.

    `Teacherless(GPT(...), task)` is all that a notebook needs; under Lightning's Trainer, set
    `make_optimizer` to anything that `configure_optimizers` may return.

    Raises:
        Impossible: the model's attention mask means nothing under this objective.
    """

    masks: ClassVar[tuple[str, ...]] = ("causal", "prefix")
    """The attention masks under which the objective means something."""

    teacher_forced: bool = True
    """Whether the model reads answer tokens as input, so that it can be handed a true or false prefix."""

    changes_by_step: bool = False
    """Whether the loss is another function of weights, rows and noise at another step; no CUDA graph is."""

    make_optimizer: Callable[[nn.Module, int], Any]

    def __init__(self, model: Any, task: Task) -> None:
        super().__init__()
        self.model = model
        self.task = task
        if model.mask not in self.masks:
            raise Impossible(
                f"model.mask={model.mask}: {type(self).__name__} has no meaning under it; "
                f"expected {' or '.join(self.masks)}"
            )

    @abstractmethod
    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        """Mean training loss over the tokens that carry one."""

    @abstractmethod
    def answer_logits(self, batch: Batch) -> Float[Tensor, "B A V"]:
        """Logits of each answer token, from the true prefix if `teacher_forced`, else from the prompt."""

    @abstractmethod
    def generate(
        self,
        prompt: Int[Tensor, "B P"],
        length: int,
        given: Int[Tensor, "B G"] | None = None,
        temperature: float = 0.0,
    ) -> Int[Tensor, "B A"]:
        """The model's own answer of `length` tokens, greedy at temperature 0.

        Args:
            given: first answer tokens handed to the model (only if `teacher_forced`); returned as part
                of the answer.
        """

    def diagnostics(self, batch: Batch) -> dict[str, Float[Tensor, " B"]]:
        """Further metrics of this objective, by name: one value a row, averaged by the evaluation."""
        return {}

    @classmethod
    def extra_positions(cls, task: Task, **options: Any) -> int:
        """How many positions beyond prompt and answer the model must have, for these `options`."""
        return 0

    def forward(self, batch: Batch) -> Float[Tensor, ""]:
        """The loss, where `torch.func` calls the objective with other weights than its own."""
        return self.loss(batch)

    def training_step(self, batch: Batch, index: int) -> Float[Tensor, ""]:
        return self.loss(batch)

    def configure_optimizers(self) -> Any:
        return self.make_optimizer(self, int(self.trainer.max_steps))


def read_last(read: Any, count: int, *inputs: Any, **options: Any) -> Float[Tensor, "B S D"]:
    """Hidden states of the last S = `count` positions, and no others where the model knows `last`.

    Args:
        read: a model, or its `run_block`; called with `inputs` and `options`.
    """
    function = getattr(read, "forward", read)
    if _knows_last(getattr(function, "__func__", function)):
        return read(*inputs, **options, last=count)
    return read(*inputs, **options)[:, -count:]


@cache  # it takes longer to find out than a small model's norm
def _knows_last(function: Callable[..., Any]) -> bool:
    return "last" in inspect.signature(function).parameters


def sample_token(logits: Float[Tensor, "*N V"], temperature: float) -> Int[Tensor, "*N"]:
    """The likeliest token at temperature 0, else a sample from the softened distribution."""
    if temperature == 0:
        return logits.argmax(-1)
    probabilities = (logits.float() / temperature).softmax(-1)
    # The same draw as `torch.multinomial`'s on a CPU, which elsewhere would look at the values first.
    return (probabilities / torch.empty_like(probabilities).exponential_()).argmax(-1)


def check_horizon(horizon: int, task: Task) -> None:
    """
    Raises:
        Impossible: more tokens to predict from one position than the answer has.
    """
    if horizon > task.answer_length:
        raise Impossible(
            f"objective.horizon={horizon}: the answer has {task.answer_length} tokens; "
            f"expected at most {task.answer_length}"
        )
