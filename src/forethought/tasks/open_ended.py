"""Base of tasks that ask for something new: any object of a kind, but none of the training set."""

import re
from abc import abstractmethod
from functools import lru_cache
from string import ascii_lowercase
from typing import Annotated, ClassVar

import torch.nn.functional as F
from jaxtyping import Int
from pydantic import Field
from torch import Tensor, tensor

from forethought.errors import Impossible, InputError
from forethought.tasks.base import Batch, Task
from forethought.tasks.draw import Draws
from forethought.validation import validated_dataclass


@validated_dataclass
class OpenEnded(Task):
    """Base of tasks whose prompt asks for any object of a kind.

    The prompt is a seed of `seed_length` random letters and `=`:

        text     q x b a u =412,97,3       without the spaces
        prompt   q x b a u =
        answer   412 97 3

    A seed tells nothing. Each training row keeps its own, validation and test rows have new ones, so that
    even greedy decoding can write different answers. Without seeds, all prompts are equal: greedy decoding
    then writes one answer, and `evaluation.decoding=sample` is the published way.

    The measure is `creativity`: the share of different right answers that the training set does not hold.
    It depends on the number of answers (evaluation.test_samples; 1,000 in a published reproduction) and on
    the decoding: the reproduction samples at several temperatures. Part of a published gain of seeds came
    from a library's default of top-k 50; top_k and top_p are off here unless set. A run is solved by its
    `relative_creativity`, as a perfect sampler repeats itself and known objects, too.

    Rows are divided into parts by their objects: one object in eight is never trained on. Seeds and objects
    are drawn independently, so that a few rows may share a seed or an object.

    Source: Nagarajan et al., "Roll the dice & look before you leap" (2504.15266), §2 for creativity.

    Args:
        seed_length: letters of a seed; the source has 0 and more.

    Raises:
        Impossible: no fixed training set.
    """

    train_samples: Annotated[int, Field(gt=0, le=10_000_000)] | None = 2000
    seed_length: int = Field(default=5, ge=0, le=1000)

    goal: ClassVar = "relative_creativity"

    def __post_init__(self) -> None:
        if self.train_samples is None and self.train_file is None:
            raise Impossible(
                "task.train_samples=null: not supported, as an answer is new only beside a fixed training "
                "set; use a number, or task.train_file"
            )

    @property
    @abstractmethod
    def _nodes(self) -> int:
        """The number of nodes, the tokens of answers: ids 0 … N - 1."""

    @property
    @abstractmethod
    def _groups(self) -> tuple[int, int]:
        """The number of groups of an answer, and the nodes of each group."""

    @abstractmethod
    def sample_answers(self, count: int, draws: Draws) -> Int[Tensor, "B A"]:
        """Draw objects, under the rules of `sample`."""

    @abstractmethod
    def canonical(self, prompt: Int[Tensor, "B P"], answer: Int[Tensor, "B A"]) -> Int[Tensor, " B"]:
        """Return the key of the object of each answer."""

    @property
    def vocabulary(self) -> tuple[str, ...]:
        return _vocabulary(self._nodes)

    @property
    def prompt_length(self) -> int:
        return self.seed_length + 1

    @property
    def answer_length(self) -> int:
        groups, size = self._groups
        return groups * size

    def sample(self, count: int, draws: Draws) -> Batch:
        letters = self._nodes + draws.integers(len(ascii_lowercase), count, self.seed_length)
        return Batch(F.pad(letters, (0, 1), value=self.dummy - 1), self.sample_answers(count, draws))

    def fingerprint(self, batch: Batch) -> Int[Tensor, " B"]:
        """Return the key of the object: no object may be trained on and tested."""
        return self.canonical(batch.prompt, batch.answer)

    def text(self, prompt: Int[Tensor, " P"], answer: Int[Tensor, " A"]) -> str:
        """Return `seed=u,v,…`, with `|` between the groups of an answer."""
        groups = (",".join(map(str, group)) for group in answer.view(self._groups).tolist())
        return "".join(self.names(prompt)) + "|".join(groups)

    def parse(self, line: str) -> tuple[list[int], list[int]]:
        groups, size = self._groups
        group = ",".join(["([0-9]{1,9})"] * size)
        found = re.fullmatch(rf"([a-z]{{{self.seed_length}}})=" + r"\|".join([group] * groups), line)
        if found is None:
            form = "|".join([",".join("uvw"[:size])] * min(groups, 2)) + ("|…" if groups > 2 else "")
            raise InputError(
                f"{line[:40]!r} is malformed; expected {self.seed_length} letters of a seed "
                f"(task.seed_length), '=' and {groups * size} nodes in the form {form}"
            )
        seed, *nodes = found.groups()
        answer = [int(node) for node in nodes]
        if max(answer) >= self._nodes:
            raise InputError(f"node {max(answer)} is out of range; expected 0…{self._nodes - 1}")
        prompt = [self._nodes + ascii_lowercase.index(letter) for letter in seed] + [self.dummy - 1]
        outcome = self.outcomes[self.check(tensor([prompt]), tensor([answer]))]
        if outcome != "right":
            raise InputError(f"{line[:40]!r} is no answer of this task: {outcome}; correct it")
        return prompt, answer


@lru_cache(maxsize=16)  # read in every step, of up to 100,000 names
def _vocabulary(nodes: int) -> tuple[str, ...]:
    return (*map(str, range(nodes)), *ascii_lowercase, "=", "$")
