"""Sums of tokens and of products against every row written out."""

import itertools
from collections import Counter

import pytest
import torch
from helpers import lines_of

from forethought.errors import Impossible, InputError
from forethought.tasks import Batch, Data, Draws, PrepareAhead

SIZES = [
    {"modulus": 2, "window": 3, "length": 4},
    {"modulus": 3, "window": 1, "length": 2, "asked_share": 0.2},
    {"modulus": 4, "window": 2, "length": 5},
    {"modulus": 5, "window": 2, "length": 3, "asked_share": 1.0},
    {"modulus": 3, "window": 2, "length": 2, "terms": "tokens"},
    {"modulus": 4, "window": 3, "length": 4, "terms": "tokens", "asked_share": 0.7},
]
with_sizes = pytest.mark.parametrize("sizes", SIZES, ids=str)


def slow_answer(task, numbers, asked):
    if not asked:
        return numbers[-1]
    total = 0
    for place in range(task.length - task.window, task.length):
        total += numbers[place] * (numbers[place - 1] if task.terms == "products" else 1)
    return total % task.modulus


@with_sizes
def test_answers_are_sums_or_the_last_number(sizes):
    task = PrepareAhead(**sizes)
    batch, m = task.sample(400, Draws(0)), task.modulus
    for prompt, answer, asked in zip(
        batch.prompt.tolist(), batch.answer[:, 0].tolist(), task.strata(batch)["asked"].tolist(), strict=True
    ):
        assert task.vocabulary[prompt[-1]] == ".?"[asked]
        assert answer == slow_answer(task, prompt[:-1], asked)
    assert batch.prompt[:, :-1].unique().tolist() == list(range(m))
    asked = task.decision_mask(batch)[:, 0]
    assert torch.equal(asked.long(), task.strata(batch)["asked"])
    assert asked.double().mean().item() == pytest.approx(task.asked_share, abs=0.1)
    assert task.needs_plan == (task.terms == "products")


def test_docstring_instances():
    task = PrepareAhead(modulus=5, window=3, length=6)
    rows = Batch(*map(torch.tensor, ([[2, 0, 4, 3, 3, 1, 5], [2, 0, 4, 3, 3, 1, 6]], [[4], [1]])))
    assert lines_of(task, rows) == ["2,0,4,3,3,1?=4", "2,0,4,3,3,1.=1"]


@with_sizes
def test_every_possible_answer_has_its_outcome(sizes):
    task = PrepareAhead(**sizes)
    batch = task.sample(60, Draws(1))
    for token in range(len(task.vocabulary)):
        outcomes = task.check(batch.prompt, torch.full_like(batch.answer, token)).tolist()
        for prompt, gold, outcome in zip(batch.prompt.tolist(), batch.answer[:, 0], outcomes, strict=True):
            expected = "right" if token == gold else "last" if token == prompt[-2] else "other"
            assert task.outcomes[outcome] == expected


@with_sizes
def test_chance_is_the_accuracy_of_the_best_constant_sum(sizes):
    """Count the sums of all prompts; then measure the policy on drawn rows."""
    task = PrepareAhead(**sizes)
    prompts = [*itertools.product(range(task.modulus), repeat=task.length)]
    (best, most), *_ = Counter(slow_answer(task, numbers, True) for numbers in prompts).most_common(1)
    assert task.decision_chance == pytest.approx(most / len(prompts))
    batch = task.sample(5000, Draws(2))
    guess = torch.where(task.decision_mask(batch), best, batch.prompt[:, -2:-1])
    accuracy = (task.check(batch.prompt, guess) == 0).double().mean().item()
    assert accuracy == pytest.approx(task.chance, abs=0.03)


def test_text_round_trip_and_parts_without_a_leak(tmp_path):
    task = PrepareAhead(modulus=12, window=2, length=4)
    batch = task.sample(200, Draws(3))
    lines = lines_of(task, batch)
    assert any("11" in line for line in lines)
    (tmp_path / "rows.txt").write_text("\n".join(lines))
    assert torch.equal(task.read(str(tmp_path / "rows.txt")).answer, batch.answer)
    data = Data(task, 0, 500)
    parts = [{tuple(row) for row in rows.prompt.tolist()} for rows in (data.batch(0), data.test(500))]
    assert not parts[0] & parts[1]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("1,2,0,1?=1", "wrong answer"),  # 2·0 + 0·1 = 0
        ("1,2,0,1.=2", "wrong answer"),
        ("1,2,0?=0", "task.length=4"),
        ("1,3,0,1?=0", "task.modulus=3"),
        ("1,2,0,1=0", "1,0,1[?]=1 or 1,0,1[.]=1"),
        ("", "malformed"),
    ],
)
def test_bad_lines(line, said):
    with pytest.raises(InputError, match=said):
        PrepareAhead(modulus=3, window=2, length=4).parse(line)


@pytest.mark.parametrize(("terms", "least"), [("tokens", 3), ("products", 4)])
def test_a_prompt_holds_all_terms(terms, least):
    assert PrepareAhead(window=3, length=least, terms=terms).prompt_length == least + 1
    with pytest.raises(Impossible, match=rf"task.length={least - 1}.*task.window=3.*at least {least}"):
        PrepareAhead(window=3, length=least - 1, terms=terms)
