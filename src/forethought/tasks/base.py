"""What a task is: a distribution over (prompt, answer) rows and the judge of an answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Bool, Int
from pydantic import Field
from torch import Tensor

from forethought.errors import InputError
from forethought.validation import validated_dataclass


@dataclass(frozen=True)
class Batch:
    """Rows of token ids. Every row of a task has the same number of prompt and of answer tokens."""

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
        train_samples: size of the fixed training set; None draws fresh rows for ever.
        train_file: text file with the training rows, in the form that `text` writes; its first
            `train_samples` rows, without those that are held out for the test.
        test_file: text file with the test rows, likewise.
    """

    train_samples: Annotated[int, Field(gt=0, le=10_000_000)] | None = None
    train_file: str | None = None
    test_file: str | None = None

    outcomes: ClassVar[tuple[str, ...]]
    """Names of what `check` returns: outcome 0 is always `right`, the others are the kinds of error."""

    following: ClassVar[str | None] = None
    """The kind of error of an answer that carries a wrong decision through to its end."""

    @property
    @abstractmethod
    def vocabulary(self) -> tuple[str, ...]:
        """The name of every token; the position is its id. The last one is the dummy token `$`."""

    @property
    def dummy(self) -> int:
        """Id of the token that stands for "no input here" (teacherless training, masking)."""
        return len(self.vocabulary) - 1

    @property
    @abstractmethod
    def prompt_length(self) -> int:
        """P, in tokens."""

    @property
    @abstractmethod
    def answer_length(self) -> int:
        """A, in tokens."""

    @property
    @abstractmethod
    def chance(self) -> float:
        """Accuracy of the best guesser that knows the rules but cannot plan, in whatever order it writes."""

    @property
    def decision_chance(self) -> float:
        """The same guesser's accuracy on the deciding tokens alone."""
        return self.chance

    @abstractmethod
    def sample(self, count: int, generator: torch.Generator, device: torch.device | str = "cpu") -> Batch:
        """Draw `count` rows uniformly from the whole task (no split into training and test)."""

    @abstractmethod
    def check(self, prompt: Int[Tensor, "B P"], answer: Int[Tensor, "B A"]) -> Int[Tensor, " B"]:
        """Judge answers: for each row the index into `outcomes`, 0 when the answer is accepted."""

    @abstractmethod
    def decision_mask(self, batch: Batch) -> Bool[Tensor, "B A"]:
        """Which answer tokens cannot be had from the prompt and the true prefix by a local rule."""

    def distract(self, batch: Batch) -> Int[Tensor, "B A"] | None:
        """An answer that takes a wrong decision and carries it through, for the Clever Hans test.

        None where a wrong decision leads nowhere in particular.
        """
        return None

    def strata(self, batch: Batch) -> dict[str, Bool[Tensor, " B"]]:
        """Subsets of rows whose accuracy is worth a metric of its own, by name."""
        return {}

    def fingerprint(self, batch: Batch) -> Int[Tensor, " B"]:
        """A 64-bit key for each row; rows that must not be split over training and test share it."""
        weights = mix(torch.arange(1, batch.prompt.shape[1] + 1, device=batch.prompt.device))
        return mix((mix(batch.prompt.long() + 1) * weights).sum(1))

    @abstractmethod
    def text(self, prompt: Int[Tensor, " P"], answer: Int[Tensor, " A"]) -> str:
        """One row as a line of text, in the published form where there is one."""

    @abstractmethod
    def parse(self, line: str) -> tuple[list[int], list[int]]:
        """Token ids of prompt and answer from a line of text; the inverse of `text`.

        Raises:
            InputError: the line is malformed or is an instance of another size.
        """

    def read(self, path: str) -> Batch:
        """All rows of a text file.

        Raises:
            InputError: no such file, or a line that `parse` refuses (with its number).
        """
        prompts, answers = [], []
        try:
            with open(path, encoding="utf-8-sig") as file:
                for number, line in enumerate(file, 1):
                    try:
                        prompt, answer = self.parse(line.rstrip("\r\n"))
                    except InputError as error:
                        raise InputError(f"{path}: line {number}: {error}") from None
                    prompts.append(prompt)
                    answers.append(answer)
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not a text file"
            raise InputError(f"{path}: {reason}; expected a text file with one row a line") from None
        if not prompts:
            raise InputError(f"{path}: the file is empty; expected one row a line")
        return Batch(torch.tensor(prompts), torch.tensor(answers))

    def drawing(self, prompt: Int[Tensor, " P"]) -> dict[str, Any] | None:
        """A picture of the prompt for the report: `{"edges": [[u, v], …], "start": u, "goal": v}`.

        None for a task that is no graph; it is then shown as text.
        """
        return None


def mix(x: Int[Tensor, "*N"]) -> Int[Tensor, "*N"]:
    """Scramble 64-bit integers (the finaliser of splitmix64; int64 products wrap around)."""
    for shift, factor in ((30, -4658895280553007687), (27, -7723592293110705685)):
        x = (x ^ ((x >> shift) & ((1 << (64 - shift)) - 1))) * factor
    return x ^ ((x >> 31) & ((1 << 33) - 1))
