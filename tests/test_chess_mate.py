"""Mates of the own puzzles, found by exhaustive search; lines and files that are accepted or rejected."""

import csv
import random
import sys

import pytest
import torch
from helpers import lines_of

from forethought.errors import InputError
from forethought.tasks import Batch, ChessMate, Draws
from forethought.tasks.chess_mate import OWN_PUZZLES

MISSING = "needs the extra [chess]"


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "chess", None)
    with pytest.raises(InputError, match=r"task=chess_mate: python-chess is missing; run .*\[chess\]"):
        ChessMate()


@pytest.fixture(scope="module")
def chess():
    return pytest.importorskip("chess", reason=MISSING)


@pytest.fixture(params=[1, 2])
def task(chess, request):
    return ChessMate(moves=request.param)


def mating(board, plies):
    """First moves after which every reply is followed by a mate, in so many plies."""

    def mates(move):
        board.push(move)
        replies = [*board.legal_moves]
        found = board.is_checkmate()
        if replies and plies > 1:
            found = True
            for reply in replies:
                board.push(reply)
                found = found and bool(mating(board, plies - 2))
                board.pop()
        board.pop()
        return found

    return [move for move in [*board.legal_moves] if mates(move)]


def own_puzzles():
    with OWN_PUZZLES.open(newline="") as file:
        return [*csv.DictReader(file)]


def test_the_own_puzzles_are_forced_mates_and_no_shorter_ones(chess):
    """One puzzle of each position: after it come its mirror images."""
    puzzles = own_puzzles()
    assert len(puzzles[::4]) >= 12
    for row in puzzles[::4]:
        board = chess.Board(row["FEN"])
        first, second, *_ = moves = [chess.Move.from_uci(word) for word in row["Moves"].split()]
        assert f"mateIn{len(moves) // 2}" in row["Themes"]
        assert board.is_valid()
        board.push(first)
        assert second in mating(board, len(moves) - 1)
        assert len(moves) == 2 or not mating(board, 1)


def read_rows(task, batch):
    """Position in FEN, without rights, and moves of each row."""
    for line in lines_of(task, batch):
        position, moves = line.split("=")
        for size in range(8, 0, -1):
            position = position.replace("1" * size, str(size))
        yield f"{position} - - 0 1", moves.split()


def test_rows_are_the_puzzles_of_the_theme(chess, task):
    theme, expected = f"mateIn{task.moves}", set()
    for row in own_puzzles():
        if theme in row["Themes"].split():
            board, (first, *moves) = chess.Board(row["FEN"]), row["Moves"].split()
            board.push_uci(first)
            expected.add((f"{board.board_fen()} {'wb'[not board.turn]} - - 0 1", *moves))
    batch = task.sample(600, Draws(0))
    assert {(fen, *moves) for fen, moves in read_rows(task, batch)} == expected
    assert any(len(move) == 5 for _, *moves in expected for move in moves)
    assert torch.equal(batch.prompt[:3], task.sample(3, Draws(0)).prompt)
    assert not task.check(batch.prompt, batch.answer).any()


SMOTHERED = "11111r1k/p11111pp/1111111N/11111111/11111111/1Q111111/PP1111PP/111111K1 w="


@pytest.mark.parametrize(
    ("moves", "expected"),
    [
        ("b3g8 f8g8 h6f7", "right"),
        ("b3g8 f8g8 h6f5", "no_mate"),
        ("b3g8 f8g8", "no_mate"),
        ("b3g8 h8g8 h6f7", "illegal"),
        ("b3g8 f8g8 h6f6", "illegal"),
        ("b3g8 f8g8 h6f7q", "illegal"),
        ("b3g8  h6f7", "other"),
        ("b3g8 f8g8 h6f", "other"),
        ("b3b4 a7a6 b4b5 a6b5 a2a4", "other"),
        ("", "other"),
    ],
)
def test_outcomes(chess, moves, expected):
    task = ChessMate()
    ends = [*[task.vocabulary.index(character) for character in moves], task.end]
    prompt = [task.vocabulary.index(character) for character in SMOTHERED]
    batch = Batch(
        torch.tensor([prompt]), torch.tensor([[*ends, *task.answer_length * [3]][: max(18, len(ends))]])
    )
    assert task.outcomes[task.check(batch.prompt, batch.answer).item()] == expected


def test_other_mates_quicker_mates_and_the_opponents_mate(chess):
    """Any line that mates is right; without an end, or with a token that is none, it is not."""
    task = ChessMate()
    two_ways = task.parse("111111k1/1P111111/111111K1/11111111/11111111/11111111/11111111/11111111 w=b7b8r")
    row = task.pad([two_ways[0]], [two_ways[1]])
    assert task.check(row.prompt, row.answer).item() == 0
    for token in (task.dummy, task.vocabulary.index("=")):
        spoilt = row.answer.masked_fill(row.answer == task.end, token)
        assert task.outcomes[task.check(row.prompt, spoilt).item()] == "other"
    fool = "rnbqkbnr/pppp1ppp/11111111/1111p111/111111P1/11111P11/PPPPP11P/RNBQKBNR w="
    with pytest.raises(InputError, match="'a2a3 d8h4' is not a line"):
        task.parse(f"{fool}a2a3 d8h4")


HEADER = "PuzzleId,FEN,Moves,Themes"


@pytest.mark.parametrize("mate", ["in 1", "in 2", "in 1, of at most 2"])
def test_chance_and_decisions_are_those_of_random_legal_moves(chess, tmp_path, mate):
    task = ChessMate(moves=int(mate[-1]))
    if "most" in mate:
        path, row = tmp_path / "puzzles.csv", "1,6k1/1P6/6K1/8/8/8/8/8 b - - 0 1,g8h8 b7b8q,mateIn2"
        path.write_text("\n".join([HEADER, *[row] * 20]))
        task = ChessMate(puzzles=str(path))
    rng, hits, decided, world = random.Random(1), [], [], task._world()
    batch = Batch(world.prompts.long(), world.answers.long())
    mask = task.decision_mask(batch).tolist()
    for (fen, moves), marks in zip(read_rows(task, batch), mask, strict=True):
        for _ in range(30):
            board = chess.Board(fen)
            while board.ply() < 2 * task.moves - 1 + chess.Board(fen).ply() and any(board.legal_moves):
                board.push(rng.choice([*board.legal_moves]))
            hits.append(board.is_checkmate() and board.turn != chess.Board(fen).turn)
        board, place = chess.Board(fen), 0
        for number, move in enumerate(moves):
            for i, character in enumerate(move):
                legal = [other.uci() for other in board.legal_moves if other.uci().startswith(move[:i])]
                assert marks[place + i] == (number % 2 == 0 and len({other[i] for other in legal}) > 1)
                if marks[place + i]:
                    decided.append(rng.choice(legal)[i] == character)
            place += len(move) + 1
            board.push_uci(move)
        assert not any(marks[place - 1 :])
    assert abs(sum(hits) / len(hits) - task.chance) < 5 * (task.chance / len(hits)) ** 0.5 + 1e-3
    assert abs(sum(decided) / len(decided) - task.decision_chance) < 4 * 0.5 / len(decided) ** 0.5


def test_puzzles_of_a_file(chess, tmp_path):
    """Other themes are left out, and lines that castle from the start or end otherwise."""
    path = tmp_path / "puzzles.csv"
    rows = [
        "1,5rk1/p5pp/7N/8/8/1Q6/PP4PP/6K1 b - - 0 1,g8h8 b3g8 f8g8 h6f7,mate mateIn2",
        "2,6k1/5ppp/p7/8/8/8/5PPP/4R1K1 b - - 0 1,a6a5 e1e8,mateIn1",
        "3,8/8/8/8/8/p7/7R/3k1K1R b - - 0 1,a3a2 h2h8 a2a1q h8h7,mateIn2",
        "4,5k2/8/8/8/8/8/6PP/4K2R b K - 0 1,f8f7 e1g1,mateIn1",
    ]
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    task = ChessMate(puzzles=str(path))
    assert {*lines_of(task, task.sample(4, Draws(0)))} == {f"{SMOTHERED}b3g8 f8g8 h6f7"}
    assert len(ChessMate(puzzles=str(path), moves=1)._world().prompts) == 1
    with pytest.raises(InputError, match=r"task.puzzles=.*no puzzle.* mateIn3; set task.moves"):
        ChessMate(puzzles=str(path), moves=3).sample(1, Draws(0))
    for text, said in {
        "PuzzleId,FEN\n": "lacks a column; expected the CSV file of Lichess puzzles",
        f"{HEADER}\n1,x\n": "line 2: 2 columns; expected 4",
        f"{HEADER}\n1,8/8 w - - 0 1,a1a2 a2a3,mateIn2\n": "8/8 w.*correct the puzzle",
    }.items():
        path.write_text(text)
        with pytest.raises(InputError, match=said):
            ChessMate(puzzles=str(path)).sample(1, Draws(0))
    with pytest.raises(InputError, match=r"task.puzzles=/nowhere.csv: No such file.*decompressed"):
        ChessMate(puzzles="/nowhere.csv")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (SMOTHERED.replace("1Q", "2Q") + "b3g8", "malformed"),
        (SMOTHERED.replace("w=", "w") + "b3g8", "malformed"),
        (SMOTHERED.replace("k/", "1/") + "b3g8", "not a possible position"),
        (SMOTHERED + "b3g8 f8g8 h6f5", "at most 3 legal moves"),
        (SMOTHERED + "?", "at most 3 legal moves"),
    ],
)
def test_bad_lines(chess, line, said):
    with pytest.raises(InputError, match=said):
        ChessMate().parse(line)
