"""The base of all objectives: a model, its training loss and the matching decoding."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from forethought.errors import Impossible
from forethought.evaluation import GREEDY, Decoding, Diagnosis
from forethought.models.base import Model, ModelInput
from forethought.models.layers import Cache
from forethought.objectives.shared_prompt import SharedPrompt
from forethought.optimizers import OptimizerFactory
from forethought.tasks import Batch, Task, derive_seed

Prompt = Int[Tensor, "B P"]
Prefix = Int[Tensor, "B G"]
Answer = Int[Tensor, "B A"]


class Objective(pl.LightningModule, ABC):
    """Base of all objectives: wraps a model and owns the input layout, the loss and the decoding.

    An ordinary LightningModule:

        Trainer(max_steps=1000).fit(Teacherless(GPT.for_task(task), task), TaskData(task))

    Args:
        model: a `forethought.models.Model`.
        task: the task to train on.

    Attributes:
        make_optimizer: called as `make_optimizer(objective, max_steps)` by `configure_optimizers`; AdamW
            unless replaced.
        decoding: writes the answers in validation and test; greedy unless replaced.
        steps: optimiser steps before the current one, for losses that change by the step; None outside a
            Trainer.

    Raises:
        Impossible: the objective does not support the model's attention mask, or requires a model whose
            tokens can be placed in any order, or the task one that skips padding.
    """

    masks: ClassVar[tuple[str, ...]] = ("causal", "prefix")
    """The attention masks that the objective supports."""

    teacher_forced: bool = True
    """True if the model reads answer tokens as input, so that `generate` takes a `prefix`."""

    any_order: ClassVar[bool] = False
    """True if the objective places tokens in its own order, or hides them from each other."""

    starts_trained: ClassVar[bool] = False
    """True if the objective has nothing to learn from an untrained model: a run without `init_from` warns."""

    next_token_layout: bool = False
    """True if the logits of answer token i come from position P + i - 1 of one pass (`grad_flow`)."""

    def __init__(self, model: Model, task: Task) -> None:
        super().__init__()
        self.model = model
        self.task = task
        self.make_optimizer: Callable[[nn.Module, int], Any] = OptimizerFactory()
        self.decoding: Decoding = GREEDY
        self.steps: int | None = None
        self._shared: SharedPrompt | None = None
        if model.mask not in self.masks:
            raise Impossible(
                f"model.mask={model.mask}: not supported by {type(self).__name__}; "
                f"use {' or '.join(self.masks)}"
            )
        if self.any_order and not model.any_order:
            raise Impossible(
                f"model: {type(model).__name__} has no positions and attention mask to set; "
                "use gpt or looped_gpt"
            )
        if task.padded_prompts and not model.pads:
            raise Impossible(
                f"model: {type(model).__name__} reads no padded prompts, and those of this task differ in "
                "length; use gpt, looped_gpt, lstm, mamba or mamba2"
            )

    @property
    def left_to_right(self) -> bool:
        """True if `decode` writes token i from `answer_logits` at i, which follow from y_<i alone."""
        return self.teacher_forced

    @abstractmethod
    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        """Return the training loss, a mean over the tokens that carry one."""

    @abstractmethod
    def answer_logits(self, batch: Batch) -> Float[Tensor, "B A V"]:
        """Return the logits of the answer, from the true prefix if `teacher_forced`, else the prompt."""

    @abstractmethod
    def decode(
        self, prompt: Prompt, length: int, prefix: Prefix | None = None, temperature: float = 0.0
    ) -> Answer:
        """Write `length` tokens, greedily at temperature 0; what follows an end token does not count.

        Args:
            prefix: first G answer tokens, passed to the model (only if `teacher_forced`) and returned as
                part of the answer.
        """

    def generate(
        self, prompt: Prompt, length: int, prefix: Prefix | None = None, temperature: float = 0.0
    ) -> Answer:
        """Return the model's own answer: what `decode` writes, up to the first end token."""
        return self.task.trim(self.decode(prompt, length, prefix, temperature))

    def read(
        self,
        inputs: ModelInput,
        prompt: Prompt,
        last: int | None = None,
        cache: Cache | None = None,
        **options: Any,
    ) -> Float[Tensor, "B L D"]:
        """Return the model's hidden states, of all T positions or of the last L = `last` ones.

        Args:
            inputs: tokens or embeddings. Without a cache, or for the first piece, they begin with the prompt.
            prompt: tells where the prompt ends, and where it is padded.
            options: further arguments of `Model.forward`.
        """
        first = cache is None or cache.length == 0
        shared = self._shared if first and not options else None
        if shared is not None and last is not None and shared.begins(inputs, last, cache):
            return shared.read(inputs, last, cache)
        padding = self.padding(prompt, inputs.shape[1]) if first else None
        return self.model(inputs, prompt.shape[1], cache, padding, last=last, **options)

    @contextmanager
    def reads_once(self, prompt: Prompt, length: int) -> Iterator[None]:
        """Within, `read` reads this prompt once for all answers of up to `length` tokens, without gradients.

        What it returns is the same up to rounding.
        """
        parts = [part for part in self.modules() if isinstance(part, Objective)]
        padding = self.padding(prompt, prompt.shape[1])
        for part in parts:
            part._shared = SharedPrompt(part.model, prompt, padding, prompt.shape[1] + length)
        try:
            yield
        finally:
            for part in parts:
                part._shared = None

    def padding(self, prompt: Prompt, length: int) -> Bool[Tensor, "B T"] | None:
        """Return the mask of the prompt's padding in a sequence of T = `length` tokens, or None."""
        if not self.task.padded_prompts:
            return None
        return F.pad(prompt == self.task.dummy, (0, length - prompt.shape[1]))

    def skip_padding(self, positions: Int[Tensor, "*N T"], prompt: Prompt) -> Int[Tensor, "*M T"]:
        """Return the positions that a model is passed for columns of a sequence: padding takes none."""
        if not self.task.padded_prompts:
            return positions
        return (positions - (prompt == self.task.dummy).sum(1, keepdim=True)).clamp(min=0)

    def cross_entropy(
        self, logits: Float[Tensor, "*N V"], target: Int[Tensor, "*N"], reduction: str = "mean"
    ) -> Float[Tensor, "*M"]:
        """Return the cross-entropy of the targets; `$` is padding, which carries none."""
        losses = F.cross_entropy(
            logits.flatten(0, -2), target.flatten(), ignore_index=self.task.dummy, reduction=reduction
        )
        return losses.view_as(target) if reduction == "none" else losses

    def answer_loss(self, logits: Float[Tensor, "B A V"], batch: Batch) -> Float[Tensor, ""]:
        """Return the mean cross-entropy of the answer tokens, or of the task's distribution over them."""
        targets = self.task.targets(batch)
        if targets is None:
            return self.cross_entropy(logits, batch.answer)
        losses = F.cross_entropy(logits.flatten(0, 1), targets.to(logits).flatten(0, 1), reduction="none")
        return self.mean(losses.view_as(batch.answer), batch.answer)

    def mean(self, values: Float[Tensor, "B S"], tokens: Int[Tensor, "B S"]) -> Float[Tensor, ""]:
        """Return the mean of the values at the written tokens, of the whole batch."""
        if self.task.end is None:
            return values.mean()
        written = tokens != self.task.dummy
        return (values * written).sum() / written.sum()

    def count(self, tokens: Int[Tensor, "*N"]) -> int | Int[Tensor, ""]:
        """Return the number of written tokens."""
        return tokens.numel() if self.task.end is None else (tokens != self.task.dummy).sum()

    def sample(self, logits: Float[Tensor, "*N V"], temperature: float) -> Int[Tensor, "*N"]:
        """Return one token for each row of logits; never `$`, which is the last one."""
        return sample_token(logits[..., : self.task.dummy], temperature)

    def diagnostics(self, batch: Batch, task: Task) -> dict[str, Float[Tensor, " B"]]:
        """Return further metrics by name, one value a row; the evaluation averages them.

        Args:
            task: the task of the rows; it may be another one than `self.task`.
        """
        return {}

    @classmethod
    def extra_positions(cls, task: Task, **options: Any) -> int:
        """Return the positions beyond prompt and answer that the model must have, for these options."""
        return 0

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Make noise inside the loss a function of (seed, step) too, so that resuming is exact."""
        self.steps = self.global_step
        # After a resume between two epochs, Lightning counts one step too many. It also logs what belongs to
        # a step, or an epoch, at the step before, unless there is a metric `step`.
        self.trainer.fit_loop.epoch_loop._batches_that_stepped = self.global_step
        if self._logs_this_step:
            self._log_exactly({"step": self.global_step + 1})
        seed = getattr(self.trainer.datamodule, "seed", None)
        if seed is not None:
            # Ranks of a DDP run read other rows, and so draw other noise.
            rank = [self.trainer.global_rank] if self.trainer.global_rank else []
            number = self.trainer.fit_loop.epoch_loop.total_batch_idx
            noise = derive_seed(seed, "noise", number, *rank)
            # `torch.manual_seed` formats the stack for each kind of device that is missing.
            torch.default_generator.manual_seed(noise)
            if torch.cuda.is_initialized():
                torch.cuda.manual_seed_all(noise)

    def training_step(self, batch: Batch, batch_idx: int) -> Float[Tensor, ""]:
        """Return the loss; log it every `log_every_n_steps`, as reading it waits for the device.

        Raises:
            FloatingPointError: the loss is NaN or infinite at a step that is logged.
        """
        loss = self.loss(batch)
        if self._logs_this_step:
            value = self.trainer.strategy.reduce(loss.detach(), reduce_op="mean").item()
            if not math.isfinite(value):
                raise FloatingPointError(f"the training loss became {value} by step {self.global_step + 1}")
            # A tensor of the CPU: Lightning reads the metrics of its bar after every step, and would wait.
            self.log("train/loss", torch.tensor(value), prog_bar=True)
        return loss

    @property
    def _logs_this_step(self) -> bool:
        return (self.global_step + 1) % self.trainer.log_every_n_steps == 0

    def on_train_epoch_end(self) -> None:
        self._log_exactly({"step": self.global_step})

    def on_validation_epoch_start(self) -> None:
        self._begin_diagnosis(clever_hans=False)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._diagnosis.update(batch)

    def on_validation_epoch_end(self) -> None:
        """Log `val/…`, and the learning rate at the same step."""
        metrics = self._conclude_diagnosis()
        shown = {f"val/{name}": value for name, value in metrics.items() if "chance" not in name}
        if self.trainer.state.fn == "fit":
            shown["train/lr"] = self.trainer.optimizers[0].param_groups[0]["lr"]
            shown["step"] = self.trainer.global_step
        self._log_exactly(shown, ("val/accuracy", "val/decision_accuracy", "val/creativity"))

    def on_test_epoch_start(self) -> None:
        self._begin_diagnosis(clever_hans=True)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._diagnosis.update(batch)

    def on_test_epoch_end(self) -> None:
        metrics = self._conclude_diagnosis()
        self._log_exactly({f"test/{name}": value for name, value in metrics.items()})

    def _begin_diagnosis(self, clever_hans: bool) -> None:
        data = getattr(self.trainer.datamodule, "data", None)
        self._diagnosis = Diagnosis(self, self.task, self.decoding, clever_hans, data)

    def _conclude_diagnosis(self) -> dict[str, float]:
        metrics = self._diagnosis.compute(self._gather)
        del self._diagnosis  # its accumulators have no place in copies of the objective
        return metrics

    def _gather(self, values: Shaped[Tensor, " N"]) -> Shaped[Tensor, " M"]:
        """Return the values of all processes, one process after the other."""
        gather = self.trainer.strategy.all_gather  # of equal lengths
        lengths = gather(torch.tensor([len(values)], device=values.device)).flatten()
        padded = gather(F.pad(values, (0, int(lengths.max()) - len(values)))).view(len(lengths), -1)
        return torch.cat([row[:length] for row, length in zip(padded, lengths.tolist(), strict=True)])

    def _log_exactly(self, metrics: dict[str, float], on_bar: Sequence[str] = ()) -> None:
        """Log in float64: Lightning's default of float32 would turn .95 into .94999999."""
        for name, value in metrics.items():
            exact = torch.tensor(value, dtype=torch.float64)
            self.log(name, exact, prog_bar=name in on_bar, batch_size=1, rank_zero_only=False)

    def configure_optimizers(self) -> Any:
        return self.make_optimizer(self, int(self.trainer.max_steps))


def sample_token(logits: Float[Tensor, "*N V"], temperature: float) -> Int[Tensor, "*N"]:
    """Return the likeliest token at temperature 0, else a sample from the softened distribution."""
    if temperature == 0:
        return logits.argmax(-1)
    probabilities = (logits.float() / temperature).softmax(-1)
    # On a CPU, `torch.multinomial` draws the same tokens. On a GPU, it would wait to check the values.
    return (probabilities / torch.empty_like(probabilities).exponential_()).argmax(-1)


def check_at_most(limit: int, task: Task, **option: int) -> None:
    """Raise `Impossible` if the option, passed by its name, exceeds the limit that the task sets."""
    ((name, value),) = option.items()
    if value > limit:
        raise Impossible(
            f"objective.{name}={value}: out of range for {task.prompt_length} prompt tokens and "
            f"{task.answer_length} answer tokens; use at most {limit}"
        )


def mean_where(values: Float[Tensor, "*N"], counts: Bool[Tensor, "*N"]) -> Float[Tensor, ""]:
    """Return the mean of some of the values, zero if there are none."""
    return (values * counts).sum() / counts.sum().clamp(min=1)


def flip_written(tokens: Int[Tensor, "B S"], dummy: int) -> Int[Tensor, "B S"]:
    """Return each row from its last written token to its first, with `$` (`dummy`) after them."""
    written = (tokens != dummy).int()
    last = tokens.shape[1] - 1 - written.flip(1).argmax(1, keepdim=True)
    source = last - torch.arange(tokens.shape[1], device=tokens.device)
    before = source < written.argmax(1, keepdim=True)
    return tokens.gather(1, source.clamp(min=0)).masked_fill(before, dummy)


def tokens_ahead(answer: Int[Tensor, "B A"], vocabulary_size: int, nearest: int = 1) -> Int[Tensor, "B A V"]:
    """Return the distance from each answer position to the next occurrence of each token.

    The token to predict at a position is 1 ahead. Tokens less than `nearest` ahead are not counted. A
    token that no longer occurs is A + 1 ahead; so is the last one of the vocabulary, `$`, which is none.
    """
    rows, length = answer.shape
    position = torch.arange(length, device=answer.device)
    distance = position - position[:, None] + 1
    distance = distance.masked_fill(distance < nearest, length + 1).expand(rows, -1, -1)
    never = distance.new_full((rows, length, vocabulary_size), length + 1)
    ahead = never.scatter_reduce(2, answer[:, None].expand(-1, length, -1), distance, "amin")
    ahead[:, :, -1] = length + 1
    return ahead
