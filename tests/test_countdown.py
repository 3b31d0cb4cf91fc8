"""Countdown against slow, obvious twins in plain Python."""

import itertools
import json
import random
from functools import lru_cache

import pytest
import torch
from helpers import lines_of

from forethought.errors import Impossible, InputError
from forethought.evaluation import diagnose
from forethought.models import GPT
from forethought.objectives import NextToken
from forethought.tasks import Batch, Countdown, Data, Draws
from forethought.tasks.base import TEST, TRAIN, VALIDATION

TASK = Countdown()
TASKS = [
    TASK,
    Countdown(inputs=3, largest=10_000, tokens="digits", pauses=2),
    Countdown(inputs=3, largest=40, min_target=5, max_target=40, pauses=1),
    Countdown(inputs=5, largest=500),
]
with_task = pytest.mark.parametrize("task", TASKS, ids=str)
APPLY = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a // b if b and a % b == 0 else None,
}


def games(task, batch):
    """The numbers, the target and the equations of each row, read from its text."""
    for prompt, answer in zip(batch.prompt, batch.answer, strict=True):
        row = json.loads(task.text(prompt, answer))
        *numbers, target = map(int, row["input"].split(","))
        yield numbers, target, row["output"].split(",")


def result_of(task, a, sign, b):
    """The result, or None if the rules forbid it."""
    result = APPLY[sign](a, b)
    return result if result is not None and 0 <= result <= task.largest else None


def moves(task, numbers):
    """Every equation that can be written, and the numbers that are left after it."""
    for (i, a), (j, b) in itertools.permutations(enumerate(numbers), 2):
        rest = [number for k, number in enumerate(numbers) if k not in (i, j)]
        for sign in APPLY:
            result = result_of(task, a, sign, b)
            if result is not None:
                yield f"{a}{sign}{b}={result}", [*rest, result]


@lru_cache(maxsize=1 << 16)
def reachable(task_at, numbers, target):
    if len(numbers) == 1:
        return numbers[0] == target
    left = {tuple(sorted(rest)) for _, rest in moves(TASKS[task_at], numbers)}
    return any(reachable(task_at, rest, target) for rest in left)


def play(numbers, equations):
    """The numbers left after equations, or None if one of them is wrong."""
    numbers = [*numbers]
    for equation in equations:
        left, result = equation.split("=")
        sign = next(sign for sign in APPLY if sign in left)
        for operand in left.split(sign):
            if int(operand) not in numbers:
                return None
            numbers.remove(int(operand))
        if APPLY[sign](*map(int, left.split(sign))) != int(result):
            return None
        numbers.append(int(result))
    return numbers


@with_task
def test_rows_are_games_that_end_at_their_target(task):
    batch = task.sample(100, Draws(0))
    lines = lines_of(task, batch[:9])
    again = task.parse_all(lines)
    assert torch.equal(again.prompt, batch.prompt[:9])
    assert torch.equal(again.answer, batch.answer[:9])
    assert task.parse_all([*lines, lines[0].replace("=", "=1")]) is None
    assert (task.check(batch.prompt, batch.answer) == 0).all()
    assert all(share.all() for share in task.shares(batch.prompt, batch.answer).values())
    signs = set()
    for numbers, target, equations in games(task, batch):
        assert len(numbers) == task.inputs
        assert min(numbers) >= 1
        assert max(numbers) <= task.max_target
        assert task.min_target <= target <= task.max_target
        assert play(numbers, equations) == [target]
        results = [int(equation.split("=")[1]) for equation in equations]
        assert 0 <= min(results) <= max(results) <= task.largest
        signs |= {sign for sign in APPLY if any(sign in equation for equation in equations)}
    assert signs == {*APPLY}


def test_where_every_game_fails_a_sum_is_given(monkeypatch):
    monkeypatch.setattr("forethought.tasks.countdown._TRIES", 1)
    task = Countdown(inputs=5, largest=10_000, min_target=91)
    batch = task.sample(100, Draws(0))
    assert (task.check(batch.prompt, batch.answer) == 0).all()
    sums = sum(all("+" in equation for equation in equations) for *_, equations in games(task, batch))
    assert sums > 80


def answer_of(task, text):
    """The tokens of an answer."""
    spaced = text if task.tokens == "digits" else "".join(c if c.isdigit() else f" {c} " for c in text)
    tokens = [task.vocabulary.index(name) for name in (spaced if task.tokens == "digits" else spaced.split())]
    tokens += [] if task.end is None else [task.end]
    return torch.tensor([tokens + [task.dummy] * (task.answer_length - len(tokens))])


@pytest.mark.parametrize("tokens", ["numbers", "digits"])
@pytest.mark.parametrize(
    ("answer", "outcome", "right"),
    [
        ("86+28=114,31-13=18,114-18=96", "right", (1, 1, 1)),
        ("31-13=18,28+86=114,114-18=96", "right", (1, 1, 1)),  # another order
        ("86+28=114,31-13=18,114+18=132", "wrong_target", (1, 1, 0)),
        ("86+28=114,31-13=18,114+18=96", "wrong_arithmetic", (1, 1, 0)),  # the published symptom
        (
            "86-86=0,86+0=86,86+13=99",
            "unavailable_number",
            (0, 0, 0),
        ),  # the published check accepts this kind
        ("86+28=115,31-13=18,115-18=97", "wrong_arithmetic", (0, 1, 0)),
        ("86+28=114,31-13=18,114-28=86", "unavailable_number", (1, 1, 0)),
        ("13/86=0,31-28=3,0+3=3", "wrong_arithmetic", (0, 1, 0)),  # not exact
        ("13-86=0,31-28=3,0+3=3", "wrong_arithmetic", (0, 1, 0)),  # negative
        ("86+28=114,31=13-18,114-18=96", "malformed", (0, 0, 0)),
        ("86+28=114,114-18=96", "malformed", (0, 0, 0)),
    ],
)
def test_kinds_of_error(tokens, answer, outcome, right):
    task = Countdown(largest=200, tokens=tokens)
    line = '{"input": "86,28,13,31,96", "output": "86+28=114,31-13=18,114-18=96"}'
    prompt = torch.tensor([task.parse(line)[0]])
    prompt = torch.nn.functional.pad(prompt, (task.prompt_length - prompt.shape[1], 0), value=task.dummy)
    written = answer_of(task, answer)
    assert task.outcomes[task.check(prompt, written).item()] == outcome
    shares = task.shares(prompt, written)
    assert tuple(shares) == tuple(f"equation_accuracy_{step}" for step in (1, 2, 3))
    assert tuple(int(share.item()) for share in shares.values()) == right


def test_any_tokens_are_judged_and_a_zero_divides_nothing():
    for task in TASKS:
        batch = task.sample(50, Draws(3))
        for seed in range(4):
            noise = Draws(seed).integers(len(task.vocabulary), 50, task.answer_length)
            keep = Draws(seed, "keep").chosen(0.9, 50, task.answer_length)
            outcome = task.check(batch.prompt, batch.answer.where(keep, noise))
            assert ((outcome >= 0) & (outcome < len(task.outcomes))).all()
    prompt = TASK.sample(1, Draws(0)).prompt
    prompt[0, ::2] = torch.tensor([7, 7, 20, 20, 20])
    for answer, outcome in {
        "7-7=0,20-20=0,0/0=20": "wrong_arithmetic",
        "7-7=0,20-20=0,0*0=0": "wrong_target",
        "7-7=0,20/0=20,20/20=1": "wrong_arithmetic",
        "7-7=0,0/20=0,0+20=20": "right",
    }.items():
        assert TASK.outcomes[TASK.check(prompt, answer_of(TASK, answer)).item()] == outcome


@pytest.mark.parametrize("at", [0, 1, 2])
def test_accepted_tokens_are_those_from_which_the_target_can_be_reached(at):
    task = TASKS[at]
    batch = task.sample(12, Draws(5))
    accepted, deciding = task.accepted(batch), task.decision_mask(batch)
    for row, (numbers, target, equations) in enumerate(games(task, batch)):
        place = 0
        for step, true in enumerate(equations):
            last = step == task.inputs - 2
            closing = "" if last else ","
            good = {
                equation
                for equation, rest in moves(task, play(numbers, equations[:step]))
                if reachable(at, tuple(sorted(rest)), target)
            }
            good, true = ([spelled(task, e + closing, last) for e in texts] for texts in (good, [true]))
            for i in range(len(true[0])):
                names = {e[i] for e in good if e[:i] == true[0][:i]}
                found = {task.vocabulary[token] for token in accepted[row, place].nonzero()[:, 0].tolist()}
                assert found == names
                assert deciding[row, place].item() == (not last and "=" not in true[0][: i + 1])
                place += 1
        assert not accepted[row, place:].any()
        assert not deciding[row, place:].any()


def spelled(task, text, last):
    """Names of the tokens of a piece of an answer."""
    if task.tokens == "digits":
        return [*text, *(["end"] if last else [])]
    return "".join(c if c.isdigit() else f" {c} " for c in text).split()


def guesses(task, numbers):
    """Yield each equation that the guesser may write of two numbers under the rules, with its odds."""
    for a, b in itertools.permutations(numbers, 2):
        legal = {}
        for first, second in ((b, a), (a, b)):  # the order drawn, where both keep the rules
            legal |= {s: (first, s, second) for s in APPLY if result_of(task, first, s, second) is not None}
        for guess in legal.values():
            yield guess, 1 / len(legal)


def test_chance_is_that_of_random_equations_with_a_look_up_at_the_end():
    """It combines two numbers at random by an operation that keeps the rules, and sees one equation ahead."""
    task, dice, right = TASK, random.Random(0), []
    for numbers, target, _ in games(task, task.sample(1000, Draws(6))):
        left = numbers
        while len(left) > 2:
            written, weights = zip(*guesses(task, left), strict=True)
            (guess,) = dice.choices(written, weights)
            left = play(left, ["{}{}{}=".format(*guess) + str(result_of(task, *guess))])
        right.append(any(rest == [target] for _, rest in moves(task, left)))
    assert sum(right) / len(right) == pytest.approx(task.chance, abs=0.045)


def test_chance_of_decisions_is_that_of_a_guess_that_begins_as_the_true_equation(monkeypatch):
    """Exactly, on the rows that it is estimated from."""
    monkeypatch.setattr("forethought.tasks.countdown._CHANCE_ROWS", (60, 60))
    task = Countdown(max_target=99)  # chances are kept, and those of other tests have all rows
    batch = task.sample(60, Draws(0, "countdown", "chance"))
    accepted, deciding, shares = task.accepted(batch), task.decision_mask(batch), []
    for row, (numbers, _, equations) in enumerate(games(task, batch)):
        for step in range(task.inputs - 2):
            true = [task.vocabulary[token] for token in batch.answer[row, 6 * step : 6 * step + 3].tolist()]
            written = [([*map(str, guess)], p) for guess, p in guesses(task, play(numbers, equations[:step]))]
            for known in range(3):
                assert deciding[row, 6 * step + known]
                begins = [(guess[known], p) for guess, p in written if guess[:known] == true[:known]]
                right = accepted[row, 6 * step + known]
                hits = sum(p for name, p in begins if right[task.vocabulary.index(name)])
                shares.append(hits / sum(p for _, p in begins))
    assert sum(shares) / len(shares) == pytest.approx(task.decision_chance, abs=1e-6)


def test_shares_are_metrics():
    objective = NextToken(GPT.for_task(TASK, layers=1, width=16, heads=2), TASK)
    batch = TASK.sample(8, Draws(8))
    objective.decode = lambda *_, **__: batch.answer.roll(
        6, 1
    )  # the first two equations come second and third
    metrics = diagnose(objective, TASK, batch, clever_hans=False)
    shares = TASK.shares(batch.prompt, batch.answer.roll(6, 1))
    for name, share in shares.items():
        assert metrics[name] == share.double().mean().item()


def test_targets_are_held_out_by_value():
    batch = TASK.sample(4000, Draws(7))
    parts = TASK.part(batch)
    targets = [set(batch.prompt[parts == part, 8].tolist()) for part in range(3)]
    assert not targets[TEST] & targets[VALIDATION]
    assert not targets[TRAIN] & (targets[TEST] | targets[VALIDATION])
    assert [len(targets[part]) for part in (TEST, VALIDATION)] == [9, 9]
    assert (TASK.part(Data(TASK, 0, 300).batch(0)) == TRAIN).all()
    swapped = batch.prompt.clone()
    swapped[:, [0, 4]] = batch.prompt[:, [4, 0]]
    assert torch.equal(TASK.fingerprint(Batch(swapped, batch.answer)), TASK.fingerprint(batch))
    assert TASK.fingerprint(batch).unique().numel() > 3900


def words(text):
    return text.split()


def test_docstring_instances():
    line = '{"input": "86,28,13,31,96", "output": "86+28=114,31-13=18,114-18=96"}'
    task = Countdown(largest=10_000, pauses=2)
    prompt, answer = task.parse(line)
    assert [task.vocabulary[token] for token in prompt] == words("86 , 28 , 13 , 31 , 96 | |")
    assert [task.vocabulary[token] for token in answer] == words(
        "86 + 28 = 114 , 31 - 13 = 18 , 114 - 18 = 96"
    )
    decisions = task.decision_mask(Batch(torch.tensor([prompt]), torch.tensor([answer])))[0].nonzero()[:, 0]
    assert [task.vocabulary[answer[place]] for place in decisions.tolist()] == words("86 + 28 31 - 13")
    task = Countdown(largest=10_000, tokens="digits")
    prompt, answer = task.parse(line)
    assert [task.vocabulary[token] for token in prompt] == [*"86,28,13,31,96="]
    assert [task.vocabulary[token] for token in answer] == [*"86+28=114,31-13=18,114-18=96", "end"]


@pytest.mark.parametrize(
    ("given", "written", "said"),
    [
        ("86,28,13,31,96", "86+28=114,31-13=18,114-18", "malformed"),
        ("86,28,13,31,x", "86+28=114", "malformed"),
        ("86,28,31,96", "86+28=114,114-18=96", "3 numbers and 2 equations; expected 4 and 3"),
        ("86,28,13,31,9", "86+28=114,31-13=18,114-18=96", "target 9 is out of range"),
        ("186,28,13,31,96", "86+28=114,31-13=18,114-18=96", "number 186 .*task.max_target=100"),
        ("86,28,13,31,96", "86*28=2408,31-13=18,114-18=96", "number 2408 .*task.largest=200"),
        ("86,28,13,31,96", "86+28=114,31-13=18,114+18=96", "wrong_arithmetic"),
    ],
)
def test_bad_lines(given, written, said):
    with pytest.raises(InputError, match=said):
        Countdown(largest=200).parse(json.dumps({"input": given, "output": written}))


def test_impossible_sizes():
    with pytest.raises(Impossible, match=r"task.max_target=100: above task.largest=99; expected at most"):
        Countdown(largest=99)
    with pytest.raises(Impossible, match=r"task.max_target=100: .*task.min_target=92.* at least 101"):
        Countdown(min_target=92)
