"""The addition task against schoolbook arithmetic."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from forethought.errors import InputError
from forethought.tasks import Addition, Batch, Draws


def rows(task, pairs):
    places = 10 ** torch.arange(task.digits - 1, -1, -1)
    return task._batch(torch.as_tensor(pairs)[:, :, None] // places % 10)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 17), st.booleans(), st.data())
def test_answers_are_sums(digits, reverse, data):
    task = Addition(digits=digits, order="reversed" if reverse else "plain")
    number = st.integers(0, 10**digits - 1)
    pair = (data.draw(number), data.draw(number))
    batch = rows(task, [pair])
    a, b, total = (
        f"{n:0{w}d}" for n, w in zip((*pair, sum(pair)), (digits, digits, digits + 1), strict=True)
    )
    assert task.text(batch.prompt[0], batch.answer[0]) == f"{a}+{b}={total}"
    answer = [int(c) for c in (total[::-1] if reverse else total)]
    assert batch.answer[0].tolist() == answer
    assert task.parse(f"{a}+{b}={total}") == (batch.prompt[0].tolist(), answer)
    assert task.check(batch.prompt, batch.answer).item() == 0


def slow_chain(a, b, digits):
    """Longest run: a pair above 9, then pairs of 9 that pass its carry on."""
    pairs = [int(x) + int(y) for x, y in zip(f"{a:0{digits}d}", f"{b:0{digits}d}", strict=True)][::-1]
    longest = 0
    for start, pair in enumerate(pairs):
        if pair > 9:
            passed = list(itertools.takewhile(lambda p: p == 9, pairs[start + 1 :]))
            longest = max(longest, 1 + len(passed))
    return longest


def test_carry_chains_and_decisions_over_all_sums():
    task = Addition(digits=2)
    pairs = list(itertools.product(range(100), repeat=2))
    batch = rows(task, pairs)
    chain = task.carry_chain(batch.prompt).tolist()
    assert chain == [slow_chain(a, b, 2) for a, b in pairs]
    # The first digit must be foreseen where the tens sum to 9: whether there is a carry is up to the ones.
    # (With three digits and two 9s only the first: its true value tells the second.)
    foreseen = [[a // 10 + b // 10 == 9, False, False] for a, b in pairs]
    assert task.decision_mask(batch).tolist() == foreseen
    reverse = Addition(digits=2, order="reversed")
    assert reverse.decision_mask(rows(reverse, pairs)).tolist() == [row[::-1] for row in foreseen]
    assert task.strata(batch)["carry"].tolist() == chain
    assert max(chain) < task.strata_sizes["carry"]


def test_inside_a_run_of_nines_the_true_prefix_tells():
    task = Addition(digits=4)
    batch = rows(task, [(1450, 8540), (1450, 1549), (1459, 1541)])
    # pairs 9 9 9 0, 2 9 9 9, 2 9 9 10: the digit left of the run decides, unless nothing can reach it
    assert task.decision_mask(batch).int().tolist() == [[1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 1, 0, 0, 0]]


def test_chance_is_the_guessers_accuracy_over_all_sums():
    """He looks one pair to the right and bets on no carry where that sums to 9."""
    for digits in (1, 2, 3):
        task = Addition(digits=digits)
        numbers = torch.arange(10**digits)
        batch = rows(task, torch.cartesian_prod(numbers, numbers))
        sums = task._pairs(batch.prompt)
        carry = torch.cat([sums > 9, torch.zeros_like(sums[:, :1], dtype=torch.bool)], 1)
        own = torch.cat([torch.zeros_like(sums[:, :1]), sums], 1)
        guess = (own + carry.int()) % 10
        right = (guess == batch.answer).all(1).double().mean().item()
        assert right == pytest.approx(task.chance)
        deciding = task.decision_mask(batch)
        if deciding.any():
            hits = (guess == batch.answer)[deciding].double().mean().item()
            assert hits == pytest.approx(task.decision_chance)


def test_kinds_of_error():
    task = Addition(digits=3)
    batch = rows(task, [(275, 629)] * 4)
    answers = torch.tensor([[0, 9, 0, 4], [0, 8, 0, 4], [0, 9, 11, 4], [0, 9, 5, 4]])
    assert [task.outcomes[i] for i in task.check(batch.prompt, answers).tolist()] == [
        "right",
        "carry",
        "malformed",
        "other",
    ]


def test_docstring_instance():
    task = Addition(digits=3)
    batch = rows(task, [(275, 629)])
    assert task.text(batch.prompt[0], batch.answer[0]) == "275+629=0904"
    assert task.decision_mask(batch).tolist() == [[False, True, False, False]]


@pytest.mark.parametrize("line", ["1+2=3", "001+002=0004", "001+002", "", "00a+002=0003"])
def test_bad_lines(line):
    with pytest.raises(InputError):
        Addition(digits=3).parse(line)


def test_sampler_covers_all_digits():
    batch = Addition(digits=4).sample(2000, Draws(0))
    assert isinstance(batch, Batch)
    assert batch.prompt[:, 0].unique().tolist() == list(range(10))
