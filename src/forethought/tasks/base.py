"""Base class of tasks: a distribution over (prompt, answer) rows and a check of answers."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from forethought.errors import InputError
from forethought.tasks.draw import Draws, splitmix64
from forethought.validation import validated_dataclass

TEST, VALIDATION, TRAIN = 0, 1, 2
"""Parts of a task's rows."""

_PARTS = 16

_LINES = 1024
"""Lines that are parsed at a time. On 10,000 nodes, a graph takes 80 kB while it is checked."""

_EXPECTED = "expected a regular text file, uncompressed, with one row per line"


def _belongs_to_process(path: str) -> bool:
    """Tell whether a path is another file in another process, such as /dev/stdin in a worker of a pool."""
    place = os.path.abspath(path)
    while not (found := re.match("/proc/|/dev/(fd/|std)", place)) and os.path.islink(place):
        place = os.path.abspath(os.path.join(os.path.dirname(place), os.readlink(place)))
    return found is not None


def _until_blank_end(lines: Iterable[str], path: str) -> Iterator[str]:
    """Yield the lines before the blank ones at the end of a file, without their line ends."""
    blank = 0
    for number, line in enumerate(lines, 1):
        if line.isspace():
            blank = blank or number
        elif blank:
            raise InputError(f"{path}: line {blank}: blank, with a row in line {number}; delete it")
        else:
            yield line.rstrip("\r\n")


@dataclass(frozen=True)
class Batch:
    """Rows of token ids, in the widths P and A of the task.

    A shorter prompt is padded with `$` on the left, a shorter answer on the right, so that every answer
    begins at column P of the whole sequence.
    """

    prompt: Int[Tensor, "B P"]
    answer: Int[Tensor, "B A"]

    def to(self, device: torch.device | str) -> Batch:
        return Batch(self.prompt.to(device), self.answer.to(device))

    def __getitem__(self, rows: slice | Tensor) -> Batch:
        return Batch(self.prompt[rows], self.answer[rows])

    def __len__(self) -> int:
        return len(self.prompt)


@validated_dataclass
class Task(ABC):
    """Base of all tasks. A subclass is a dataclass: its fields are the keys of its YAML file.

    Args:
        train_samples: size of the fixed training set; None draws fresh rows at every step.
        train_file: text file with the training rows, in the form that `text` writes. Rows that are held
            out for validation or test are dropped, and the first `train_samples` of the rest are used.
        test_file: text file with the test rows, in the same form.
    """

    train_samples: Annotated[int, Field(gt=0, le=10_000_000)] | None = None
    train_file: str | None = None
    test_file: str | None = None

    outcomes: ClassVar[tuple[str, ...]]
    """Names of the outcomes that `check` returns: outcome 0 is `right`, all others are kinds of error."""

    goal: ClassVar[str] = "accuracy"
    """Metric from 0 to 1 by which a run is solved, and by which its best checkpoint is chosen."""

    header: ClassVar[str | None] = None
    """First line that a published file may have, which holds no row."""

    following: ClassVar[str | None] = None
    """Outcome of an answer that carries a wrong decision through to its end; None if there is none."""

    @property
    @abstractmethod
    def vocabulary(self) -> tuple[str, ...]:
        """Names of all tokens, in the order of their ids. The last one is the dummy token `$`."""

    @property
    def pretrained_tokenizer(self) -> str | None:
        """Folder of the tokenizer of `transformers` whose tokens are those of the task, but for `$`.

        None: the task has tokens of its own.
        """
        return None

    @property
    def dummy(self) -> int:
        """Id of the token that means "no token here" (padding, teacherless training, masking)."""
        return len(self.vocabulary) - 1

    @property
    def end(self) -> int | None:
        """Id of the token that closes an answer; None where every answer has A tokens."""
        return None

    @property
    def padded_prompts(self) -> bool:
        """True if prompts differ in length."""
        return False

    @property
    @abstractmethod
    def prompt_length(self) -> int:
        """Width P of the prompts: the tokens of the longest one."""

    @property
    @abstractmethod
    def answer_length(self) -> int:
        """Width A of the answers: the tokens of the longest one, its end token included."""

    def pad(self, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> Batch:
        """Return rows of prompts and answers that may be shorter than P and A.

        An answer includes its end token, if the task has one.
        """
        p, a, dummy = self.prompt_length, self.answer_length, self.dummy
        left = [[dummy] * (p - len(prompt)) + list(prompt) for prompt in prompts]
        right = [list(answer) + [dummy] * (a - len(answer)) for answer in answers]
        return Batch(torch.tensor(left).view(-1, p), torch.tensor(right).view(-1, a))

    def trim(self, answer: Int[Tensor, "B A"]) -> Int[Tensor, "B A"]:
        """Return what was written up to the first end token, with `$` after it."""
        if self.end is None:
            return answer
        ended = (answer == self.end).int()
        return answer.masked_fill(ended.cumsum(1) - ended > 0, self.dummy)

    def fill(self, answer: Int[Tensor, "B A"]) -> Int[Tensor, "B A"]:
        """Return answers with end tokens in place of padding.

        For objectives that write in no fixed order: visible padding would tell them the length.
        """
        return answer if self.end is None else answer.masked_fill(answer == self.dummy, self.end)

    @property
    @abstractmethod
    def chance(self) -> float:
        """Accuracy of the best policy that knows the rules but cannot plan, in any order of writing."""

    @property
    def decision_chance(self) -> float:
        """Accuracy of the same policy on the decision tokens alone."""
        return self.chance

    @property
    def needs_plan(self) -> bool:
        """False if a local rule predicts every answer token from the prompt and the true prefix."""
        return True

    @abstractmethod
    def sample(self, count: int, draws: Draws) -> Batch:
        """Draw `count` rows uniformly from the whole task (no split into training and test).

        Take all randomness from `draws`, and compute each row from its own numbers alone. Row r is then
        the same on every device and for every `count`.
        """

    def sample_training(self, count: int, draws: Draws) -> Batch:
        """Draw `count` rows to train on, under the rules of `sample`.

        By default they are those of `sample`, from which validation and test always come.
        """
        return self.sample(count, draws)

    def sample_test(self, count: int, draws: Draws) -> Batch | None:
        """Draw `count` rows to test on. None: those of `sample` that `part` sets aside for the test."""
        return None

    @abstractmethod
    def check(self, prompt: Int[Tensor, "B P"], answer: Int[Tensor, "B A"]) -> Int[Tensor, " B"]:
        """Return the index into `outcomes` of each row: 0 if the answer is accepted."""

    def shares(self, prompt: Int[Tensor, "B P"], answer: Int[Tensor, "B A"]) -> dict[str, Bool[Tensor, " B"]]:
        """Return which rows have a partial success, by the name of the metric that is their share.

        The answers are those that the model has written, free-running.
        """
        return {}

    @abstractmethod
    def decision_mask(self, batch: Batch) -> Bool[Tensor, "B A"]:
        """Mark the decision tokens: those that no local rule predicts from the prompt and true prefix."""

    def distract(self, batch: Batch) -> Int[Tensor, "B A"] | None:
        """Return answers that take a wrong decision and carry it through, for the Clever Hans test.

        Return None if a wrong decision does not determine the rest of the answer.
        """
        return None

    def targets(self, batch: Batch) -> Float[Tensor, "B A V"] | None:
        """Return the probability of each token at each position, to train on in place of the answer.

        None: the answer itself.
        """
        return None

    def accepted(self, batch: Batch) -> Bool[Tensor, "B A V"] | None:
        """Return which tokens are right at each position after the true prefix, where several are.

        The metrics count these; None: the answer's token alone. By default, those with a probability in
        `targets`.
        """
        targets = self.targets(batch)
        return None if targets is None else targets > 0

    def log_probability(
        self, prompt: Int[Tensor, "B P"], answer: Int[Tensor, "B A"]
    ) -> Float[Tensor, " B"] | None:
        """Return log p(answer | prompt) under the task's own distribution, in nats; -inf if impossible.

        None: the distribution is not known.
        """
        return None

    def next_probabilities(self, batch: Batch) -> Float[Tensor, "B A V"] | None:
        """Return the true distribution of each answer token after the tokens before it, right or wrong.

        None: not known. A task may know it and train on its samples. After the true tokens, `targets` is
        known as well, but may be made from the answer of the batch, and so tells nothing of another answer.
        """
        return None

    def named_answers(self, batch: Batch) -> dict[str, Int[Tensor, "B A"]]:
        """Return answers by name, whose likelihood under the model becomes a metric of that name."""
        return {}

    def canonical(self, prompt: Int[Tensor, "B P"], answer: Int[Tensor, "B A"]) -> Int[Tensor, " B"] | None:
        """Return a 64-bit key of the object that each answer stands for, equal for equal objects.

        For tasks that ask for new objects, as `evaluation.creativity` counts them. Answers that `check`
        rejects may have any key. None: the task does not ask for new objects.
        """
        return None

    def strata(self, batch: Batch) -> dict[str, Int[Tensor, " B"]]:
        """Return the stratum of each row, from 0, by the name of what divides the rows.

        The accuracy of stratum 3 of `carry` is the metric `accuracy_carry_3`.
        """
        return {}

    @property
    def strata_sizes(self) -> dict[str, int]:
        """The number of strata, for each name of `strata`."""
        return {}

    def path_edges(self, prompt: Int[Tensor, "B P"]) -> tuple[Int[Tensor, "B E"], Int[Tensor, "B E"]] | None:
        """Return the edges of the graph as answer tokens: every step of an answer is one, from tail to head.

        None: the answer is not a path.
        """
        return None

    def landmarks(self, batch: Batch) -> dict[str, Bool[Tensor, "B P"]]:
        """Mark tokens of the prompt by the name of what they tell, to measure the attention to them."""
        return {}

    def part(self, batch: Batch) -> Int[Tensor, " B"]:
        """Return the part of each row: `TRAIN`, `VALIDATION` or `TEST`, whatever the seed of a run.

        By default one row in sixteen is for validation and one for the test, by its fingerprint. A task
        with a world that all rows share divides what may be asked about it.
        """
        residue = self.fingerprint(batch) % _PARTS
        return residue.clamp(max=TRAIN)

    def fingerprint(self, batch: Batch) -> Int[Tensor, " B"]:
        """Return a 64-bit key for each row.

        Rows with equal keys fall into the same part (training, validation or test).
        """
        weights = splitmix64(torch.arange(1, batch.prompt.shape[1] + 1, device=batch.prompt.device))
        return splitmix64((splitmix64(batch.prompt.long() + 1) * weights).sum(1))

    def names(self, tokens: Int[Tensor, " S"]) -> list[str]:
        """Return the names of tokens, for people."""
        return [self.vocabulary[token] for token in tokens.tolist()]

    @abstractmethod
    def text(self, prompt: Int[Tensor, " P"], answer: Int[Tensor, " A"]) -> str:
        """Return one row as a line of text, in the published form if there is one."""

    @abstractmethod
    def parse(self, line: str) -> tuple[list[int], list[int]]:
        """Return the token ids of prompt and answer in a line of text; the inverse of `text`.

        Raises:
            InputError: the line is malformed, or its instance has another size.
        """

    def parse_all(self, lines: list[str]) -> Batch | None:
        """Parse many lines at once, for speed. A task need not define it.

        Return None if a line may not be accepted: `parse` then reads them one by one, and names the fault.
        """
        return None

    def read(self, path: str) -> Batch:
        """Read all rows of a text file.

        Raises:
            InputError: not a text file, or `parse` rejects a line (named by its number). Blank lines after
                the last row are ignored. Any other may stand for a lost row, and is rejected.
        """
        if os.path.exists(path) and (not os.path.isfile(path) or _belongs_to_process(path)):
            what = "a folder" if os.path.isdir(path) else "not a regular file"
            raise InputError(f"{path}: {what}; {_EXPECTED}")
        parts = []
        try:
            with open(path, encoding="utf-8-sig") as file:
                filled = _until_blank_end(file, path)
                first = [*islice(filled, 1)]
                number = int(first == [self.header])
                filled = chain(first[number:], filled)
                while lines := list(islice(filled, _LINES)):
                    parts.append(self.parse_all(lines) or self._parse_each(lines, path, number))
                    number += len(lines)
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not a text file in UTF-8"
            raise InputError(f"{path}: {reason}; {_EXPECTED}") from None
        if not parts:
            raise InputError(f"{path}: the file is empty; {_EXPECTED}")
        return Batch(torch.cat([part.prompt for part in parts]), torch.cat([part.answer for part in parts]))

    def _parse_each(self, lines: list[str], path: str, before: int) -> Batch:
        rows = []
        for number, line in enumerate(lines, before + 1):
            try:
                rows.append(self.parse(line))
            except InputError as error:
                raise InputError(f"{path}: line {number}: {error}") from None
        return self.pad(*zip(*rows, strict=True))

    def drawing(self, prompt: Int[Tensor, " P"]) -> dict[str, Any] | None:
        """Return a picture of the prompt for the report: `{"edges": [[u, v], …], "start": u, "goal": v}`.

        Return None if the task is not a graph; the report then shows the text.
        """
        return None
