"""Titles that fit: without what all of them share, wrapped between words, and never cut where they differ."""

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import takewhile

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path


@lru_cache(10_000)
def text_width(text: str, size: float, weight: str = "normal") -> float:
    """Return the width of one line of text in inches."""
    font = FontProperties(family="DejaVu Sans", size=size, weight=weight)
    return float(text_to_path.get_text_width_height_descent(text, font, False)[0]) / 72


def drop_shared(labels: Sequence[str]) -> list[str]:
    """Return the labels without the words that all of them have, unless a label would be empty then."""
    words = [label.split(" ") for label in labels]
    shared = set(words[0]).intersection(*words) if len(words) > 1 else set()
    rest = [" ".join(word for word in line if word not in shared) for line in words]
    return rest if all(rest) else list(labels)


def abbreviate(texts: Sequence[str], length: int = 24) -> list[str]:
    """Replace the beginning and the end that long texts share by an ellipsis: `…variant_a…`."""
    long = sorted({text for text in texts if len(text) > length})
    if len(long) < 2:
        return list(texts)
    start = _shared_length(long)
    end = _shared_length([text[start:][::-1] for text in long])
    return [
        ("…" if start else "") + text[start : len(text) - end] + ("…" if end else "")
        if text in long
        else text
        for text in texts
    ]


def _shared_length(texts: Sequence[str]) -> int:
    """Return the length of the beginning that all texts share, up to the end of a word."""
    shared = takewhile(lambda letters: len(set(letters)) == 1, zip(*texts, strict=False))
    return len(re.sub(r"\w*$", "", "".join(letters[0] for letters in shared)))


def fit_labels(
    labels: Sequence[str], width: float, size: float, weight: str = "normal", lines: int = 3
) -> list[str]:
    """Return each label in at most so many lines of `width` inches. Different labels stay different."""
    columns: dict[str, list[str]] = {}
    for word in " ".join(labels).split(" "):
        columns.setdefault(word.partition("=")[0] if "=" in word else "", []).append(word)
    short = {
        word: text
        for words in columns.values()
        for word, text in zip(words, _abbreviate_values(words), strict=True)
    }
    texts = [" ".join(short[word] for word in label.split(" ")) for label in labels]
    return [wrap_text(text, width, size, weight, lines) for text in texts]


def _abbreviate_values(words: Sequence[str]) -> list[str]:
    values = [word.rpartition("=") for word in words]
    short = abbreviate([value for _, _, value in values])
    return [name + sign + text for (name, sign, _), text in zip(values, short, strict=True)]


def wrap_text(text: str, width: float, size: float, weight: str = "normal", lines: int = 3) -> str:
    """Break a text between words, and long words after `_`, `/` and the like.

    A text that needs more lines is cut in the middle.
    """
    cut = text
    while len(rows := _break_lines(cut, width, size, weight)) > lines:
        kept = len(cut.replace("…", "", 1)) - 1 if cut != text else len(text) - 1
        cut = text[: kept // 2] + "…" + text[len(text) - (kept - kept // 2) :]
    return "\n".join(rows)


def _break_lines(text: str, width: float, size: float, weight: str) -> list[str]:
    rows = []
    for paragraph in text.split("\n"):
        row = ""
        for number, word in enumerate(paragraph.split(" ")):
            for part, piece in enumerate(_split_word(word, width, size, weight)):
                joined = row + " " * (part == 0 and number > 0) + piece
                if number + part == 0 or text_width(joined, size, weight) <= width:
                    row = joined
                else:
                    rows.append(row)
                    row = piece
        rows.append(row)
    return rows


def _split_word(word: str, width: float, size: float, weight: str) -> list[str]:
    """Split a word that is longer than a line: after `=`, else after `/`, else after `_` and the like."""
    pieces = [word]
    for pattern in ("[^=]*=|[^=]+", "[^/]*/|[^/]+", r"[^_.,:-]*[_.,:-]|[^_.,:-]+", "."):
        pieces = [
            part
            for piece in pieces
            for part in ([piece] if text_width(piece, size, weight) <= width else re.findall(pattern, piece))
        ]
    return pieces
