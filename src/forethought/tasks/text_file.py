"""A plain text file: how does a window of it continue?"""

import json
from functools import lru_cache
from typing import Annotated, ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Int
from pydantic import Field
from torch import Tensor

from forethought.errors import InputError
from forethought.tasks.base import TEST, TRAIN, VALIDATION, Batch
from forethought.tasks.continuation import Continuation
from forethought.tasks.draw import Draws, splitmix64
from forethought.tasks.text import Text, read_text
from forethought.validation import validated_dataclass

_PARTS = 2 * [TRAIN, TRAIN, TRAIN, VALIDATION, TRAIN, TRAIN, TRAIN, TEST]
"""Parts of the blocks into which a text is cut."""


@validated_dataclass
class TextFile(Continuation):
    """Continuation of a window of a text, in characters or in the tokens of a pretrained model.

    A row is a window of the text: P prompt tokens, and the A tokens that follow. With P = 16, A = 16:

        text     …nd it was the step after it that mattered.\\n\\nTo plan is to let…
        prompt         "as the step afte"
        answer                          "r it that matter"     loss on all; no token decides

    The text is cut into 16 blocks of equal length, by tokens, whatever P and A:

        block    0  1  2  3  4  5  6  7  8  9  10 11 12 13 14 15
        part     .  .  .  V  .  .  .  T  .  .  .  V  .  .  .  T      T test, V validation, . training

    A window lies in blocks of one part, so that no token of the text is in two parts. Windows that several
    parts have are held out: the test takes them before validation, and validation before training. Windows
    of one part are equally likely.

    An answer is right if it is the text's own continuation. What the answers are like is told by the
    metrics on likelihood, and by `loop`: whether text that is likely is also text that repeats itself.

    With `model=pretrained`, `tokenizer` is the model's folder, and `model.vocabulary` is `native`. No token
    is put before a window, also where the model was trained with one at the start of a text.

    Args:
        text_file: a text file in UTF-8; None: a short text of this project on planning and prediction.
        tokenizer: `characters`, those that the text has, or a folder with a pretrained tokenizer.
        prompt_tokens: tokens of a prompt (P).
        answer_tokens: tokens of a continuation (A).
        prompt: test with this prompt alone, of as many tokens as it has. The text has no continuation of
            it: the answer is empty, and metrics that compare with the true answer are absent.

    Raises:
        InputError: the text, the tokenizer or the prompt cannot be read; the text is too short, or has too
            few different windows to hold any out.
    """

    text_file: Annotated[str, Field(min_length=1)] | None = None
    tokenizer: Annotated[str, Field(min_length=1)] = "characters"
    prompt_tokens: int = Field(default=32, ge=1, le=100_000)
    answer_tokens: int = Field(default=32, ge=1, le=100_000)
    prompt: Annotated[str, Field(min_length=1)] | None = None

    outcomes: ClassVar = ("right", "loop", "other")

    def __post_init__(self) -> None:
        # Read here, so that an edit of the file does not change a task that lives.
        self._text = read_text(self.text_file, self.tokenizer)
        try:
            self._prompt = None if self.prompt is None else self._text.encode(self.prompt)
        except InputError as error:
            raise InputError(f"task.prompt={self.prompt}: {error}") from None
        tokens, needed = len(self._text.ids), len(_PARTS) * self._window_length
        if tokens < needed:
            raise InputError(
                f"task.text_file={self.text_file}: too short, with {tokens} tokens; expected at least "
                f"{needed}: {len(_PARTS)} windows of {self.prompt_length} + {self.answer_length} tokens"
            )
        parts = {*self._windows().part.tolist()}
        if len(parts) < 3:
            raise InputError(
                f"task.text_file={self.text_file}: repeats itself, so that no windows are left for training "
                "or validation; expected a text with other words in its test blocks"
            )

    @property
    def _window_length(self) -> int:
        return self.prompt_length + self.answer_length

    def _windows(self, device: torch.device | str = "cpu") -> "_Windows":
        return _windows(self._text, self.prompt_length, self.answer_length, str(device))

    @property
    def vocabulary(self) -> tuple[str, ...]:
        return self._text.vocabulary

    @property
    def pretrained_tokenizer(self) -> str | None:
        return None if self.tokenizer == "characters" else self.tokenizer

    @property
    def prompt_length(self) -> int:
        return self.prompt_tokens if self._prompt is None else len(self._prompt)

    @property
    def answer_length(self) -> int:
        return self.answer_tokens

    @property
    def chance(self) -> float:
        """Accuracy of the best policy that reads no prompt: the share of the most frequent continuation.

        A policy that reads the prompt but does not plan is a language model, of unknown accuracy.
        """
        return self._windows().chance

    def sample(self, count: int, draws: Draws) -> Batch:
        windows = self._windows(draws.device)
        place = windows.first[draws.integers(len(windows.first), count)]
        offset = torch.arange(self._window_length, device=draws.device)
        tokens = windows.ids[place[:, None] + offset]
        return Batch(tokens[:, : self.prompt_length], tokens[:, self.prompt_length :])

    def sample_test(self, count: int, draws: Draws) -> Batch | None:
        """Return `prompt`, if it is given, with empty answers."""
        if self._prompt is None:
            return None
        prompt = torch.tensor(self._prompt, device=draws.device).expand(count, -1)
        return Batch(prompt, torch.full_like(prompt[:, :1], self.dummy).expand(-1, self.answer_length))

    def part(self, batch: Batch) -> Int[Tensor, " B"]:
        """Return the part of each window. Rows that are not in the text are never trained on."""
        windows = self._windows(batch.prompt.device)
        found, index = windows.find(torch.cat([batch.prompt, batch.answer], 1))
        return windows.part[index].where(found, TEST)

    def check(self, prompt: Int[Tensor, "B P"], answer: Int[Tensor, "B A"]) -> Int[Tensor, " B"]:
        """Return the outcome of each continuation.

        * `loop`: a wrong one whose second half repeats itself: it equals itself shifted by some number of
          tokens, of at most half its length.
        """
        found, _ = self._windows(prompt.device).find(torch.cat([prompt, answer], 1))
        half = answer[:, answer.shape[1] // 2 :]
        loops = torch.zeros_like(found)
        for period in range(1, half.shape[1] // 2 + 1):
            loops |= (half[:, period:] == half[:, :-period]).all(1)
        return torch.where(found, 0, torch.where(loops, 1, 2))

    def names(self, tokens: Int[Tensor, " S"]) -> list[str]:
        """Return the whole text as one name."""
        return [json.dumps(self._decode(tokens), ensure_ascii=False)]

    def _decode(self, tokens: Int[Tensor, " S"]) -> str:
        return self._text.decode([token for token in tokens.tolist() if token != self.dummy])

    def text(self, prompt: Int[Tensor, " P"], answer: Int[Tensor, " A"]) -> str:
        """Return `["prompt", "continuation"]` in JSON.

        Where a text would be read as other tokens, such as the end of a word, there is a list of tokens.
        """

        def side(tokens: Tensor) -> str | list[str]:
            text, ids = self._decode(tokens), [token for token in tokens.tolist() if token != self.dummy]
            return text if self._text.encode(text) == ids else [self.vocabulary[token] for token in ids]

        return json.dumps([side(prompt), side(answer)], ensure_ascii=False)

    def parse(self, line: str) -> tuple[list[int], list[int]]:
        try:
            sides = json.loads(line)
            prompt, answer = (
                self._text.encode(side) if isinstance(side, str) else [*map(self.vocabulary.index, side)]
                for side in sides
            )
        except (ValueError, TypeError):
            raise InputError(
                f'{line[:60]!r} is malformed; expected ["prompt", "continuation"] in JSON, two texts or '
                "lists of tokens"
            ) from None
        if (len(prompt), len(answer)) != (self.prompt_length, self.answer_length):
            raise InputError(
                f"{line[:60]!r} has {len(prompt)} + {len(answer)} tokens; expected {self.prompt_length} + "
                f"{self.answer_length} (task.prompt_tokens, task.answer_tokens)"
            )
        found, _ = self._windows().find(torch.tensor([prompt + answer]))
        if not found:
            raise InputError(
                f"{line[:60]!r} is not a window of task.text_file={self.text_file} within the blocks of one "
                "part; expected one"
            )
        return prompt, answer


class _Windows(NamedTuple):
    """The W windows of a text of N tokens that lie within the blocks of one part; U of them differ."""

    ids: Int[Tensor, " N"]
    first: Int[Tensor, " W"]  # the place of the first token of each window
    keys: Int[Tensor, " U"]  # of the different windows, sorted
    part: Int[Tensor, " U"]  # of the same windows
    chance: float  # share of the most frequent continuation

    def find(self, rows: Int[Tensor, "B L"]) -> tuple[Bool[Tensor, " B"], Int[Tensor, " B"]]:
        """Return which rows are windows, and the index of each window among the different ones."""
        key = _keys(rows.T)
        index = torch.searchsorted(self.keys, key).clamp(max=len(self.keys) - 1)
        return self.keys[index] == key, index


def _keys(columns: Int[Tensor, "L B"]) -> Int[Tensor, " B"]:
    """Return a 64-bit key of each sequence of L tokens, one column each."""
    weights = splitmix64(torch.arange(1, len(columns) + 1, device=columns.device))
    key = torch.zeros_like(columns[0])
    # Column by column: all windows of a text at once would take L times its memory.
    for tokens, weight in zip(columns, weights, strict=True):
        key += splitmix64(tokens + 1) * weight
    return key


@lru_cache(maxsize=8)
def _windows(text: Text, prompt_length: int, answer_length: int, device: str) -> _Windows:
    ids, length = text.ids.to(device), prompt_length + answer_length
    blocks = torch.arange(len(ids), device=device) * len(_PARTS) // len(ids)
    part = torch.tensor(_PARTS, device=device)[blocks]
    # A window is not longer than a block, and so reaches at most into the next one.
    window_part = part[: len(ids) - length + 1]
    first = (window_part == part[length - 1 :]).nonzero()[:, 0]
    columns = ids.unfold(0, length, 1).T  # a view
    keys, index = _keys(columns)[first].unique(return_inverse=True)
    parts = torch.full_like(keys, TRAIN).scatter_reduce(0, index, window_part[first], "amin")
    _, counts = _keys(columns[prompt_length:])[first].unique(return_counts=True)
    return _Windows(ids, first, keys, parts, counts.max().item() / len(first))
