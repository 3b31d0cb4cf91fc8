"""The addition task against schoolbook arithmetic."""

import itertools

import pytest
import torch
from helpers import lines_of
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


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("digits", [1, 2, 3])
def test_chance_is_the_guessers_accuracy_over_all_sums(digits, balanced):
    """He looks one pair to the right and bets on no carry, or always on one, where that sums to 9."""
    task = Addition(digits=digits, balanced=balanced)
    numbers = torch.arange(10**digits)
    batch = rows(task, torch.cartesian_prod(numbers, numbers))
    sums = task._pairs(batch.prompt)
    own = torch.cat([torch.zeros_like(sums[:, :1]), sums], 1)
    weights = torch.ones(len(sums), dtype=torch.float64)
    if balanced:
        chain = task.carry_chain(batch.prompt)
        weights = 1 / chain.bincount()[chain].double()
    deciding, best = task.decision_mask(batch), (0.0, 0.0)
    for bet in (False, True):
        carry = torch.cat([sums > 9, torch.zeros_like(sums[:, :1], dtype=torch.bool)], 1)
        carry[:, : digits - 1] |= bet & (sums == 9)[:, :-1]
        hits = (own + carry.int()) % 10 == batch.answer
        right = (weights * hits.all(1)).sum() / weights.sum()
        on_decisions = (weights[:, None] * hits)[deciding].sum() / (weights[:, None] * deciding).sum()
        best = max(best, (right.item(), on_decisions.item() if deciding.any() else 1.0))
    assert best == pytest.approx((task.chance, task.decision_chance))


@pytest.mark.parametrize("digits", [2, 3])
def test_balanced_sums_are_uniform_over_chains_and_within_each(digits):
    task, count = Addition(digits=digits, balanced=True, scratchpad="optional"), 20_000
    numbers = torch.arange(10**digits)
    all_sums = rows(task, torch.cartesian_prod(numbers, numbers)).prompt

    def kinds(prompt):
        """Number the sums by their pairs: below 9, 9 or above. These determine the chain."""
        return ((task._pairs(prompt) - 9).sign() + 1) @ 3 ** torch.arange(digits)

    law, chain = kinds(all_sums).bincount(), task.carry_chain(all_sums)
    chain_of_kind = torch.zeros_like(law).scatter(0, kinds(all_sums), chain)
    share = law / chain.bincount()[chain_of_kind] / (digits + 1)
    for draw in (task.sample, task.sample_training):
        prompt = draw(count, Draws(1)).prompt
        found = kinds(prompt).bincount(minlength=len(law))
        assert (abs(found - count * share) <= 4.5 * (count * share * (1 - share)) ** 0.5).all()
        nines = prompt[:, 0][task._pairs(prompt)[:, 0] == 9].bincount(minlength=10)
        assert (abs(nines - nines.sum() / 10) < 4.5 * (nines.sum() / 10) ** 0.5).all()


def slow_notes(a, b, digits):
    """The digit and the carry of each pair, from the last one."""
    notes, carry = "", 0
    for place in range(digits):
        pair = a // 10**place % 10 + b // 10**place % 10 + carry
        carry = pair // 10
        notes += f"{pair % 10}{carry}"
    return notes


@pytest.mark.parametrize("order", ["plain", "reversed"])
@pytest.mark.parametrize("scratchpad", ["required", "optional"])
def test_scratchpads(scratchpad, order):
    task, digits = Addition(digits=3, scratchpad=scratchpad, order=order, pauses=2), 3
    plain = Addition(digits=3, order=order)
    for draw in (task.sample, task.sample_training):
        batch, noted = draw(100, Draws(2)), 0
        expected = plain.sample(100, Draws(2))
        assert torch.equal(batch.prompt[:, :-2], expected.prompt)
        for row, line in enumerate(lines_of(task, batch)):
            a, b = int(line[:3]), int(line[4:7])
            total = "".join(map(str, expected.answer[row].tolist()))
            tokens = [task.vocabulary[token] for token in batch.answer[row]]
            notes = slow_notes(a, b, digits) if tokens[0] != ":" else ""
            end = ["end"] if scratchpad == "optional" else []
            padding = ["$"] * (task.answer_length - len(notes) - 5 - len(end))
            assert tokens == [*notes, ":", *total, *end, *padding]
            assert line == f"{line[:7]}={notes}{':' if notes else ''}{a + b:04d}"
            noted += bool(notes)
        share = {"required": 1, "optional": 0 if draw == task.sample else 1 / 2}[scratchpad]
        assert noted / 100 == pytest.approx(share, abs=0.2)
        assert (task.check(batch.prompt, batch.answer) == 0).all()
        # The digits that need a plan, wherever they stand
        mask = task.decision_mask(batch)
        assert torch.equal(batch.answer[mask], expected.answer[plain.decision_mask(expected)])
    assert [task.vocabulary[token] for token in batch.prompt[0, -3:]] == ["=", "pause", "pause"]
    assert task.needs_plan == ((scratchpad, order) == ("optional", "plain"))
    assert (task.chance, task.decision_chance) == (plain.chance, plain.decision_chance)


@pytest.mark.parametrize(
    ("written", "outcome"),
    [
        (":0904e", "right"),
        ("410190:0904e", "right"),
        ("77+=3:0904e", "right"),
        ("1:095:0904e", "right"),
        ("4101900:0904", "malformed"),  # no room for the end
        ("0904e", "malformed"),
        ("0904:e", "malformed"),
        (":09045e", "malformed"),
        (":0904:0904e", "right"),
        (":0904:0804e", "carry"),
        (":0954e", "other"),
        (":09=4e", "malformed"),
    ],
)
def test_only_what_follows_the_last_separator_counts(written, outcome):
    task = Addition(digits=3, scratchpad="optional")
    tokens = [task.end if character == "e" else task.vocabulary.index(character) for character in written]
    row = task.pad([rows(task, [(275, 629)]).prompt[0].tolist()], [tokens])
    assert task.outcomes[task.check(row.prompt, row.answer).item()] == outcome


def test_any_token_but_the_end_is_accepted_where_text_is_free():
    task = Addition(digits=2, scratchpad="optional")
    batch = task.sample_training(20, Draws(3))
    accepted = task.accepted(batch)
    for answer, row in zip(batch.answer.tolist(), accepted, strict=True):
        first = answer.index(task.vocabulary.index(":")) + 1
        assert row.gather(1, torch.tensor(answer)[:, None]).all()
        assert row[:first, : task.end].all()
        assert not row[:first, task.end :].any()
        assert (row[first:].sum(1) == 1).all()
    assert Addition(scratchpad="required").accepted(batch) is None


def test_answers_that_begin_with_text_are_counted():
    task = Addition(digits=2, scratchpad="optional")
    batch = task.sample_training(20, Draws(3))
    begins = [task.vocabulary[token] != ":" for token in batch.answer[:, 0].tolist()]
    assert 0 < sum(begins) < 20
    assert task.shares(batch.prompt, batch.answer)["notes_written"].tolist() == begins
    assert Addition(scratchpad="required").shares(batch.prompt, batch.answer) == {}


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
    noted = rows(Addition(digits=3, scratchpad="required"), [(275, 629)])
    assert lines_of(Addition(digits=3, scratchpad="required"), noted) == ["275+629=410190:0904"]


@pytest.mark.parametrize(
    ("line", "scratchpad"),
    [
        *((line, "none") for line in ["1+2=3", "001+002=0004", "001+002", "", "00a+002=0003"]),
        ("275+629=410190:0904", "none"),
        ("275+629=0904", "required"),
        *((line, "optional") for line in ["275+629=:0904", "275+629=400190:0904", "275+629=410190:0905"]),
    ],
)
def test_bad_lines(line, scratchpad):
    with pytest.raises(InputError, match=r"correct the answer|task\.digits=3, task\.scratchpad="):
        Addition(digits=3, scratchpad=scratchpad).parse(line)


def test_sampler_covers_all_digits():
    batch = Addition(digits=4).sample(2000, Draws(0))
    assert isinstance(batch, Batch)
    assert batch.prompt[:, 0].unique().tolist() == list(range(10))
