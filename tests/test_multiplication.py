"""Multiplication against schoolbook arithmetic."""

import itertools
from collections import Counter

import pytest
import torch
from helpers import lines_of

from forethought.errors import InputError
from forethought.tasks import Batch, Data, Draws, Multiplication
from forethought.tasks.base import TRAIN

with_digits = pytest.mark.parametrize("digits", [1, 2, 3, 9])
with_forms = pytest.mark.parametrize(
    ("order", "scratchpad"),
    [*itertools.product(["reversed", "plain"], ["none", "partial_products"])],
)


def written(number, places):
    """The digits of a number from the last to the first, padded with zeros."""
    return f"{number:0{places}d}"[::-1]


def numbers_of(task, prompt):
    """The two numbers of a prompt, read from its tokens."""
    text = "".join(task.vocabulary[token] for token in prompt.tolist() if token < 12)
    x, _, y = text.rstrip("=").partition("*")
    return int(x[::-1]), int(y[::-1])


@with_digits
@with_forms
def test_answers_are_products(digits, order, scratchpad):
    task = Multiplication(digits=digits, order=order, scratchpad=scratchpad, pauses=2)
    batch, places = task.sample(60, Draws(0)), 2 * digits
    assert (task.check(batch.prompt, batch.answer) == 0).all()
    smaller = []
    for prompt, answer, line in zip(batch.prompt, batch.answer, lines_of(task, batch), strict=True):
        x, y = numbers_of(task, prompt)
        question = f"{written(x, digits)}*{written(y, digits)}="
        tokens = [task.vocabulary[token] for token in prompt]
        assert tokens == [*question, "pause", "pause"]
        partials = [written(x * int(digit) * 10**j, places) for j, digit in enumerate(written(y, digits))]
        notes = "+".join(partials) + ":" if scratchpad == "partial_products" else ""
        product = written(x * y, places)
        assert line == question + notes + product
        tokens = "".join(task.vocabulary[token] for token in answer)
        assert tokens == notes + (product[::-1] if order == "plain" else product)
        smaller.append(min(len(str(number)) if number else 0 for number in (x, y)))
    assert task.strata(batch)["digits"].tolist() == smaller
    assert max(smaller) < task.strata_sizes["digits"]
    assert task.needs_plan == (digits > 1 and (order, scratchpad) != ("reversed", "partial_products"))


def carries_of(x, y, digits):
    """The sum of each column, the carry that it sends, and the largest carry that it could receive."""
    carry, most, columns = 0, 0, []
    for place in range(2 * digits - 1):
        pairs = [(a, place - a) for a in range(digits) if 0 <= place - a < digits]
        column = sum(x // 10**a % 10 * (y // 10**b % 10) for a, b in pairs)
        carry = (column + carry) // 10
        columns.append((column, carry, most))
        most = (81 * len(pairs) + most) // 10
    return columns


@with_digits
def test_decisions_are_the_digits_that_the_column_before_leaves_open(digits):
    task, noted = Multiplication(digits=digits), Multiplication(digits=digits, scratchpad="partial_products")
    plain = Multiplication(digits=digits, order="plain")
    batch = task.sample(60, Draws(1))
    expected = []
    for prompt in batch.prompt:
        columns = carries_of(*numbers_of(task, prompt), digits)
        sent = [{(column + carry) // 10 for carry in range(most + 1)} for column, _, most in columns]
        expected.append([False, *(len(carries) > 1 for carries in sent)])
    assert task.decision_mask(batch).tolist() == expected
    assert plain.decision_mask(plain.sample(60, Draws(1))).tolist() == [row[::-1] for row in expected]
    mask = noted.decision_mask(noted.sample(60, Draws(1)))
    assert mask[:, -2 * digits :].tolist() == expected
    assert not mask[:, : -2 * digits].any()


@pytest.mark.parametrize("digits", [1, 2, 3])
def test_chance_is_the_accuracy_of_a_policy_that_adds_up_two_columns(digits):
    """It takes the carry that it has most often seen after a column with this sum."""
    task = Multiplication(digits=digits)
    seen, tested = (
        [carries_of(*numbers_of(task, prompt), digits) for prompt in task.sample(4000, Draws(seed)).prompt]
        for seed in (2, 3)
    )
    counts = [Counter((row[place][0], row[place][1]) for row in seen) for place in range(2 * digits - 1)]
    right, on_decisions = [], []
    for row in tested:
        hits = []
        for place, (column, carry, most) in enumerate(row):
            guess = max(range(100), key=lambda c: counts[place][column, c])
            hits.append(guess == carry)
            if column // 10 < (column + most) // 10:
                on_decisions.append(guess == carry)
        right.append(all(hits))
    assert sum(right) / len(right) == pytest.approx(task.chance, abs=0.03)
    share = sum(on_decisions) / len(on_decisions) if on_decisions else 1.0
    assert share == pytest.approx(task.decision_chance, abs=0.03)


def test_docstring_instances():
    for scratchpad, line in (("none", "21*43=8040"), ("partial_products", "21*43=8400+0630:8040")):
        task = Multiplication(scratchpad=scratchpad)
        row = Batch(*(torch.tensor([tokens]) for tokens in task.parse(line)))
        assert lines_of(task, row) == [line]
        assert task.decision_mask(row)[0, -4:].tolist() == [False, False, False, True]


@with_forms
def test_kinds_of_error(order, scratchpad):
    """Only the product is judged, whatever stands in the scratchpad."""
    task = Multiplication(order=order, scratchpad=scratchpad)
    prompt = torch.tensor([[2, 1, 10, 4, 3, 11]])  # 12 · 34
    notes = [0] * (task.answer_length - 4)
    for product, outcome in {"8040": "right", "8940": "inner", "8041": "other", "8=40": "malformed"}.items():
        tokens = [task.vocabulary.index(digit) for digit in (product[::-1] if order == "plain" else product)]
        assert task.outcomes[task.check(prompt, torch.tensor([notes + tokens])).item()] == outcome


def test_a_product_is_held_out_in_both_orders_of_its_factors():
    task = Multiplication(pauses=1)
    batch = task.sample(2000, Draws(4))
    swapped = Batch(batch.prompt[:, [3, 4, 2, 0, 1, 5, 6]], batch.answer)
    assert torch.equal(task.part(batch), task.part(swapped))
    assert task.fingerprint(batch).unique().numel() == len(
        {tuple(sorted(numbers_of(task, prompt))) for prompt in batch.prompt}
    )
    assert (task.part(Data(task, 0, 500).batch(0)) == TRAIN).all()


@pytest.mark.parametrize(
    ("line", "scratchpad", "said"),
    [
        ("21*43=8041", "none", "wrong product"),
        ("21*43=8400+0630:8040", "none", r"x\*y=xy.*task\.digits=2"),
        ("21*43=8040", "partial_products", r"partial\+…\+partial:xy.*task\.digits=2"),
        ("21*43=8400+0640:8040", "partial_products", "wrong product"),
        ("210*43=8040", "none", "2 digits in x and y"),
        ("", "none", "malformed"),
    ],
)
def test_bad_lines(line, scratchpad, said):
    with pytest.raises(InputError, match=said):
        Multiplication(scratchpad=scratchpad).parse(line)
