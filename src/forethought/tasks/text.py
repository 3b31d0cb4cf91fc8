"""A text file as token ids: characters, or the tokens of a pretrained tokenizer."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from forethought.errors import InputError, first_line
from forethought.extras import import_transformers

OWN_TEXT = Path(__file__).with_name("planning.txt")
"""A short text of this project, on planning and prediction."""

_EXPECTED = "expected a text file in UTF-8"


@dataclass(frozen=True, eq=False, repr=False)
class Text:
    """The tokens of a text and the vocabulary that they come from."""

    ids: Int[Tensor, " N"]
    vocabulary: tuple[str, ...]
    """Names of all tokens, in the order of their ids, and `$`."""
    tokenizer: Any
    """Of `transformers`; None for characters."""

    def encode(self, text: str) -> list[int]:
        """Return the tokens of another text.

        Raises:
            InputError: it has a character that is not in the vocabulary.
        """
        if self.tokenizer is not None:
            ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
            return ids
        known = {character: number for number, character in enumerate(self.vocabulary[:-1])}
        for character in text:
            if character not in known:
                raise InputError(
                    f"{character!r} is not in the text of task.text_file; expected one of its characters, "
                    f"{''.join(known)!r}"
                )
        return [known[character] for character in text]

    def decode(self, ids: Sequence[int]) -> str:
        if self.tokenizer is not None:
            text: str = self.tokenizer.decode(ids, clean_up_tokenization_spaces=False)
            return text
        return "".join(self.vocabulary[token] for token in ids)


def read_text(path: str | None, tokenizer: str) -> Text:
    """Read a text file, once a process as long as it is unchanged.

    Args:
        path: of the file; None for `OWN_TEXT`.
        tokenizer: `characters`, those of the text in their order, or the folder of a pretrained tokenizer.

    Raises:
        InputError: the file is missing, empty or not a text, or the folder holds no tokenizer.
    """
    place = OWN_TEXT if path is None else Path(path)
    try:
        state = os.stat(place)
        if not place.is_file():
            raise InputError(f"task.text_file={path}: not a regular file; {_EXPECTED}")
        return _read(place.absolute(), (state.st_mtime_ns, state.st_size, state.st_ino), tokenizer)
    except (OSError, ValueError) as error:  # bytes that cannot be decoded are a ValueError
        reason = getattr(error, "strerror", None) or "not a text file"
        raise InputError(f"task.text_file={path}: {reason}; {_EXPECTED}") from None


@lru_cache(maxsize=4)
def _read(path: Path, state: tuple[int, ...], tokenizer: str) -> Text:
    text = path.read_text(encoding="utf-8-sig")
    if "\0" in text:
        raise ValueError("not a text")
    if tokenizer == "characters":
        points, ids = np.unique(np.frombuffer(text.encode("utf-32-le"), np.uint32), return_inverse=True)
        # From NumPy, as models are checked under `torch.device("meta")`.
        return Text(torch.from_numpy(ids.astype(np.int64)), (*map(chr, points.tolist()), "$"), None)
    loaded = load_tokenizer(tokenizer)
    ids = np.array(loaded.encode(text, add_special_tokens=False), np.int64)
    return Text(torch.from_numpy(ids), (*token_names_of(loaded), "$"), loaded)


def load_tokenizer(folder: str) -> Any:
    """Load a tokenizer of `transformers` from a folder, never from the hub.

    Raises:
        InputError: the folder holds none, or `transformers` is missing.
    """
    word = f"task.tokenizer={folder}"
    if not Path(folder).is_dir():
        raise InputError(f"{word}: no such folder; expected characters, or the folder of a tokenizer")
    try:
        return import_transformers(word).AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except InputError:
        raise
    except Exception as error:  # the tokenizers package raises plain Exception
        raise InputError(
            f"{word}: cannot be loaded ({first_line(error)}); expected characters, or a folder with a "
            "tokenizer written by save_pretrained"
        ) from None


def token_names_of(tokenizer: Any) -> tuple[str, ...]:
    """Return the tokens of a tokenizer of `transformers`, in the order of their ids."""
    return tuple(map(str, tokenizer.convert_ids_to_tokens(range(len(tokenizer)))))
