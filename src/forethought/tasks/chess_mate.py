"""Chess: mate in m moves, from the puzzles of Lichess, with characters as tokens."""

import csv
import os
import random
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Int
from pydantic import Field
from torch import Tensor

from forethought.errors import InputError
from forethought.extras import import_chess
from forethought.tasks.base import Batch, Task
from forethought.tasks.draw import Draws
from forethought.tasks.graph import to_device
from forethought.validation import validated_dataclass

OWN_PUZZLES = Path(__file__).with_name("chess_mates.csv")
"""Positions composed for this project, each with its mirror images, in the columns of Lichess."""

_CHARACTERS = "/ 1=BKNPQRbknpqrwacdefgh2345678"

_COLUMNS = ("FEN", "Moves", "Themes")

_EXPECTED = f"expected the CSV file of Lichess puzzles, decompressed, with the columns {', '.join(_COLUMNS)}"

_CHANCE_PUZZLES, _CHANCE_LINES = 200, 10
"""Puzzles and random lines of each from which `chance` is estimated."""


@validated_dataclass
class ChessMate(Task):
    """Line of moves that mates in m moves, from the position of a puzzle. m = 2:

        text     5r1k/6pp/7N/8/2Q5/8/6PP/6K1 with each empty square as 1, then " w=c4g8 f8g8 h6f7"
        prompt   1 1 1 1 1 r 1 k / 1 1 1 1 1 1 p p / 1 1 1 1 1 1 1 N / …   w =
        answer   c 4 g 8   f 8 g 8   h 6 f 7 end       loss on all of these
                 ^ ^ ^ ^             ^ ^ ^ ^           decisions, where legal moves differ

    The position is that after the first move of the puzzle, which is the opponent's. Ranks are written as in
    FEN, but with a 1 for each empty square; of the rest of the FEN, only the side to move is kept. A
    character is a token. The answer has both sides' moves in UCI, promotions included.

    Any line is right that has at most 2 m - 1 legal moves and ends with a mate by the side to move, as
    python-chess finds. The opponent's moves are not judged: a line in which a weak reply helps is right, too.
    A position has no rights to castle or to take en passant, as the prompt does not tell them. Puzzles whose
    line needs such a right are left out.

    A character of the own moves is a *decision* if it differs between legal moves that begin as the true one.

    What differs from the source: its GPT-2 tokenizer, commas between squares, and the split at row 350,000;
    here, the position decides the part of a puzzle. The source drops promotions and accepts the published
    line alone.

    Source: Bachmann & Nagarajan, "The Pitfalls of Next-Token Prediction" (2403.06963), mate-in-m data with
    `unrolled` squares, of the puzzles of database.lichess.org.

    Args:
        puzzles: the CSV file of Lichess puzzles, decompressed. None: some positions of this project's own,
            to try the task. A CPU core reads 3,000 puzzles of a theme a second.
        moves: own moves to the mate (m), those of the theme `mateIn…`.

    Raises:
        InputError: python-chess is missing, or the file cannot be read.
    """

    puzzles: Annotated[str, Field(min_length=1)] | None = None
    moves: int = Field(default=2, ge=1, le=5)

    outcomes: ClassVar = ("right", "no_mate", "illegal", "other")

    def __post_init__(self) -> None:
        import_chess()
        next(_read_rows(self.puzzles), None)  # a wrong path is found here, all puzzles are read when needed

    @property
    def vocabulary(self) -> tuple[str, ...]:
        return (*_CHARACTERS, "end", "$")

    @property
    def end(self) -> int:
        return len(_CHARACTERS)

    @property
    def prompt_length(self) -> int:
        return 8 * 8 + 7 + len(" w=")

    @property
    def answer_length(self) -> int:
        return len("a7a8q ") * self._plies

    @property
    def _plies(self) -> int:
        return 2 * self.moves - 1

    @property
    def chance(self) -> float:
        """Accuracy of random legal moves, up to a mate or to the number of moves.

        Estimated from 200 puzzles with a fixed seed.
        """
        return self._world().chance

    @property
    def decision_chance(self) -> float:
        """Accuracy of a random legal move on the decision tokens, given the true ones before."""
        return self._world().decision_chance

    def _world(self, device: torch.device | str = "cpu") -> "_World":
        place = OWN_PUZZLES if self.puzzles is None else self.puzzles
        state = os.stat(place)
        return _world(self.puzzles, self.moves, (state.st_mtime_ns, state.st_size, state.st_ino), str(device))

    def sample(self, count: int, draws: Draws) -> Batch:
        world = self._world(draws.device)
        row = draws.integers(len(world.prompts), count)
        return Batch(world.prompts[row].long(), world.answers[row].long())

    def _spell(self, tokens: Int[Tensor, " S"]) -> str | None:
        """Return the characters of tokens. None if one of them is no character."""
        ids = tokens.tolist()
        return "".join(_CHARACTERS[token] for token in ids) if max(ids, default=0) < self.end else None

    def _lines(self, batch: Batch) -> Iterator[tuple[str, str | None]]:
        """Yield the position and the moves of each row. None: no end, or padding before it."""
        for prompt, answer in zip(batch.prompt.cpu(), batch.answer.cpu(), strict=True):
            ends = (answer == self.end).nonzero()
            yield self._spell(prompt) or "", self._spell(answer[: ends[0, 0]]) if len(ends) else None

    def check(self, prompt: Int[Tensor, "B P"], answer: Int[Tensor, "B A"]) -> Int[Tensor, " B"]:
        """Return the outcome of each line.

        * `no_mate`: legal moves, the last of which is no mate by the side to move.
        * `illegal`: moves, one of which is not legal.
        * `other`: not a list of moves with an end, or too long a list.
        """
        kinds = [_judge(position, line, self._plies) for position, line in self._lines(Batch(prompt, answer))]
        return torch.tensor([self.outcomes.index(kind) for kind in kinds], device=answer.device)

    def decision_mask(self, batch: Batch) -> Bool[Tensor, "B A"]:
        """Mark the characters of the own moves that the legal moves leave open."""
        shares = [_open_shares(position, line or "") for position, line in self._lines(batch)]
        rows = [[share < 1 for share in row] + [False] * self.answer_length for row in shares]
        mask = torch.tensor([row[: self.answer_length] for row in rows], device=batch.answer.device)
        return mask.view(batch.answer.shape)

    def text(self, prompt: Int[Tensor, " P"], answer: Int[Tensor, " A"]) -> str:
        """Return the position and the moves: `1111111k/… w=c4g8 f8g8 h6f7`."""
        ((position, line),) = self._lines(Batch(prompt[None], answer[None]))
        return position + (line or "")

    def parse(self, line: str) -> tuple[list[int], list[int]]:
        position, equals, moves = line.partition("=")
        rank = "[BKNPQRbknpqr1]{8}"
        if not equals or not re.fullmatch(f"{rank}(?:/{rank}){{7}} [wb]", position):
            raise InputError(
                f"{line[:80]!r} is malformed; expected eight ranks, with 1 for an empty square, the side to "
                "move, and the moves: 1111111k/… w=c4g8 f8g8 h6f7"
            )
        position += equals
        if not _board_of(position).is_valid():
            raise InputError(f"{position} is not a possible position; correct it")
        if _judge(position, moves, self._plies) != "right":
            raise InputError(
                f"{moves[:60]!r} is not a line of at most {self._plies} legal moves that mates; correct it, "
                "or set task.moves"
            )
        return _encode(position), [*_encode(moves), self.end]


class _World(NamedTuple):
    """The puzzles of a file, in bytes, and what random moves achieve in them."""

    prompts: Int[Tensor, "R P"]
    answers: Int[Tensor, "R A"]
    chance: float
    decision_chance: float


@lru_cache(maxsize=4)
def _world(puzzles: str | None, moves: int, state: tuple[int, ...], device: str) -> _World:
    if device != "cpu":
        return to_device(_world(puzzles, moves, state, "cpu"), device)
    plies = 2 * moves - 1
    pairs = [*_read_puzzles(puzzles, moves)]
    if not pairs:
        raise InputError(f"task.puzzles={puzzles}: no puzzle has the theme mateIn{moves}; set task.moves")
    width, end = len("a7a8q ") * plies, len(_CHARACTERS)
    prompts, answers = bytearray(), bytearray()
    for position, line in pairs:
        tokens = [*_encode(line), end]
        prompts += bytes(_encode(position))
        answers += bytes(tokens + [end + 1] * (width - len(tokens)))
    some = pairs[:: max(1, len(pairs) // _CHANCE_PUZZLES)]
    rng = random.Random(0)
    hits = [_play(position, plies, rng) for position, _ in some for _ in range(_CHANCE_LINES)]
    shares = [share for pair in some for share in _open_shares(*pair) if share < 1]
    return _World(
        torch.frombuffer(prompts, dtype=torch.uint8).view(len(pairs), -1),
        torch.frombuffer(answers, dtype=torch.uint8).view(len(pairs), -1),
        chance=sum(hits) / len(hits),
        decision_chance=sum(shares) / len(shares),
    )


def _read_rows(puzzles: str | None) -> Iterator[tuple[str, str, str]]:
    """Yield the columns FEN, Moves and Themes of a CSV file.

    Raises:
        InputError: the file cannot be read, or lacks a column.
    """
    place = OWN_PUZZLES if puzzles is None else Path(puzzles)
    try:
        with place.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file)
            header = next(rows, [])
            if not {*_COLUMNS} <= {*header}:
                raise InputError(f"task.puzzles={puzzles}: its first line lacks a column; {_EXPECTED}")
            fen, moves, themes = map(header.index, _COLUMNS)
            for row in rows:
                if len(row) != len(header):
                    raise InputError(
                        f"task.puzzles={puzzles}: line {rows.line_num}: {len(row)} columns; expected "
                        f"{len(header)}"
                    )
                yield row[fen], row[moves], row[themes]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or "not a text file in UTF-8"
        raise InputError(f"task.puzzles={puzzles}: {reason}; {_EXPECTED}") from None


def _read_puzzles(puzzles: str | None, moves: int) -> Iterator[tuple[str, str]]:
    """Yield the position and the line of each puzzle that the task accepts."""
    chess = import_chess()
    for fen, listed, themes in _read_rows(puzzles):
        if f"mateIn{moves}" not in themes.split():
            continue
        first, _, line = listed.partition(" ")
        try:
            board = chess.Board(fen)
            board.push_uci(first)
        except ValueError as error:
            raise InputError(f"task.puzzles={puzzles}: {fen} {first}: {error}; correct the puzzle") from None
        position = _position_of(board)
        if _judge(position, line, 2 * moves - 1) == "right":
            yield position, line


def _encode(text: str) -> list[int]:
    """Return the tokens of the characters of a text."""
    return [_CHARACTERS.index(character) for character in text]


def _position_of(board: Any) -> str:
    """Return the position of a board in the form of a prompt."""
    squares = re.sub("[2-8]", lambda empty: "1" * int(empty[0]), board.board_fen())
    return f"{squares} {'w' if board.turn else 'b'}="


def _board_of(position: str) -> Any:
    """Return the board of a position in the form of a prompt, without rights to castle or en passant."""
    squares = re.sub("1+", lambda empty: str(len(empty[0])), position.removesuffix("="))
    return import_chess().Board(f"{squares} - - 0 1")


def _judge(position: str, line: str | None, plies: int) -> str:
    """Return the outcome of a line of moves."""
    board, words = _board_of(position), (line or "").split(" ")
    try:
        moves = [import_chess().Move.from_uci(word) for word in words]
    except ValueError:
        return "other"
    if len(moves) > plies:
        return "other"
    for move in moves:
        if not board.is_legal(move):
            return "illegal"
        board.push(move)
    return "right" if len(moves) % 2 and board.is_checkmate() else "no_mate"


def _open_shares(position: str, line: str) -> list[float]:
    """Return the share of legal moves that go on with each character of a line, among those that fit so far.

    1 for the opponent's moves and for blanks.
    """
    board, shares = _board_of(position), list[float]()
    for ply, word in enumerate(line.split(" ") if line else []):
        fitting = [move.uci() for move in board.legal_moves]
        for place in range(len(word)):
            after = [move for move in fitting if move[: place + 1] == word[: place + 1]]
            shares.append(1.0 if ply % 2 else len(after) / len(fitting))
            fitting = after
        shares.append(1.0)
        board.push_uci(word)
    return shares


def _play(position: str, plies: int, rng: random.Random) -> float:
    """Return the probability that random legal moves mate, with all moves but the last one drawn."""
    board = _board_of(position)
    for ply in range(plies):
        moves = [*board.legal_moves]
        if not moves:
            return float(ply % 2 == 1 and board.is_check())
        if ply == plies - 1:
            break
        board.push(rng.choice(moves))
    mates = 0
    for move in moves:
        board.push(move)
        mates += board.is_checkmate()
        board.pop()
    return mates / len(moves)
