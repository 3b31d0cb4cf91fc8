"""The chain of known probabilities against its rules in plain Python, over all answers."""

import itertools
import math
from collections import Counter

import pytest
import torch
from helpers import lines_of

from forethought.errors import Impossible, InputError
from forethought.tasks import Batch, Draws, TypicalSet

SMALL = {"symbols": 4, "branching": 2, "loop_probability": 0.4, "answer_symbols": 4, "tolerance": 0.05}
# Every symbol may follow every symbol; 0.5 and 1/6.
WRAPPED = {"symbols": 3, "branching": 3, "loop_probability": 0.5, "answer_symbols": 3, "tolerance": 0.3}
every_size = pytest.mark.parametrize(
    "task", [TypicalSet(**SMALL), TypicalSet(**WRAPPED)], ids=["small", "wrapped"]
)


def follows(task, before):
    """Return the probability of each token that may follow a token: 0 is `a`, i is bi."""
    p = round(task.loop_probability * 2**24) / 2**24
    steps = [(before + step - 1) % task.symbols + 1 for step in range(1, task.branching + 1)]
    return {0: p, **dict.fromkeys(steps, (1 - p) / task.branching)}


def probability(task, before, answer):
    product = 1.0
    for token in answer:
        product *= follows(task, before).get(token, 0.0) if before <= task.symbols else 0.0
        before = token
    return product


def outcome(task, before, answer):
    value, entropy = (
        probability(task, before, answer),
        sum(-p * math.log(p) for p in follows(task, 0).values()),
    )
    if value == 0:
        return "impossible"
    if not any(answer):
        return "loop"
    excess = -math.log(value) / len(answer) - entropy
    if abs(excess) <= task.tolerance:
        return "right"
    return "unlikely" if excess > 0 else "likely"


@every_size
def test_probabilities_outcomes_and_chance_over_all_answers(task):
    tokens, length = range(len(task.vocabulary)), task.answer_length
    answers = [*itertools.product(tokens, repeat=length)]
    for before in range(task.symbols + 1):
        batch = Batch(torch.tensor([[0, 0, 0, before]] * len(answers)), torch.tensor(answers))
        expected = torch.tensor([probability(task, before, answer) for answer in answers]).double()
        found = task.log_probability(batch.prompt, batch.answer).exp()
        torch.testing.assert_close(found, expected)
        assert found.sum().item() == pytest.approx(1)
        assert answers[int(found.argmax())] == (0,) * length
        assert (found == found.max()).sum() == 1
        kinds = [outcome(task, before, answer) for answer in answers]
        assert [task.outcomes[i] for i in task.check(batch.prompt, batch.answer).tolist()] == kinds
        mass = sum(p for p, kind in zip(found.tolist(), kinds, strict=True) if kind == "right")
        assert mass == pytest.approx(task.chance)
        # The next token's distribution is the share of answers that go on with it.
        possible = batch[found > 0]
        next_probabilities = task.next_probabilities(possible)
        assert torch.equal(task.accepted(possible), next_probabilities > 0)
        for row, answer in zip(next_probabilities, possible.answer.tolist(), strict=True):
            for place in range(length):
                prefix = answer[:place]
                masses = [probability(task, before, [*prefix, token]) for token in tokens]
                share = torch.tensor(masses).double() / probability(task, before, prefix)
                torch.testing.assert_close(row[place], share)


@every_size
def test_samples_follow_the_probabilities(task):
    count = 40_000
    batch = task.sample(count, Draws(0))
    first = batch.prompt[:, 0].bincount(minlength=len(task.vocabulary)) / count
    p = task.loop_probability
    shares = [p, *[(1 - p) / task.symbols] * task.symbols, 0]
    assert first.tolist() == pytest.approx(shares, abs=5 * math.sqrt(0.25 / count))
    # The chain does not forget its rules between prompt and answer, nor within the prompt.
    for rows in (batch, Batch(batch.prompt[:, :1], batch.prompt[:, 1:])):
        befores = Counter(rows.prompt[:, -1].tolist())
        drawn = Counter(zip(rows.prompt[:, -1].tolist(), map(tuple, rows.answer.tolist()), strict=True))
        assert all(probability(task, *row) > 0 for row in drawn)
        for (before, answer), number in drawn.items():
            expected, n = probability(task, before, answer), befores[before]
            assert number == pytest.approx(n * expected, abs=5 * math.sqrt(n * expected) + 1)
    right = (task.check(batch.prompt, batch.answer) == 0).double().mean().item()
    assert right == pytest.approx(task.chance, abs=5 * math.sqrt(0.25 / count))
    again = task.sample(7, Draws(0))
    assert torch.equal(
        torch.cat([again.prompt, again.answer], 1), torch.cat([batch.prompt, batch.answer], 1)[:7]
    )


def test_by_default_the_loop_is_hardly_ever_written_and_not_typical():
    task = TypicalSet()
    batch = task.sample(5, Draws(0))
    loop = task.named_answers(batch)["loop"]
    assert task.chance > 0.95
    assert (task.log_probability(batch.prompt, loop).exp() < 1e-4).all()
    assert {task.outcomes[i] for i in task.check(batch.prompt, loop).tolist()} == {"loop"}
    assert task.targets(batch) is None
    assert not task.decision_mask(batch).any()


def test_text():
    task = TypicalSet()
    lines_of(task, task.sample(20, Draws(1)))
    line = next(
        line.strip()[9:] for line in TypicalSet.__doc__.splitlines() if line.strip().startswith("text")
    )
    prompt, answer = task.parse(line)
    assert (prompt, answer[:4]) == ([3, 8, 0, 2], [7, 9, 0, 1])
    assert task.outcomes[task.check(torch.tensor([prompt]), torch.tensor([answer])).item()] == "right"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("", "expected 4 symbols, ' / ' and 4 symbols of a, b1 … b4"),
        ("a a a a / a a a", "expected 4 symbols"),
        ("a a a / a a a a a", "expected 4 symbols"),
        ("a a a a / a a a $", "expected 4 symbols"),
        ("a a a a / a a a a / a", "expected 4 symbols"),
        ("a a a a / b1 b4 a a", "b4 does not follow b1 .* expected one of a, b2, b3"),
        ("a b2 b4 b3 / a a a a", "b3 does not follow b4 .* expected one of a, b1, b2"),
        ("a a a a / b3 a a a", "b3 does not follow a .* expected one of a, b1, b2"),
    ],
)
def test_bad_lines(line, told):
    with pytest.raises(InputError, match=told):
        TypicalSet(**SMALL).parse(line)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"branching": 5}, "task.branching=5: .* use at most 4"),
        ({"loop_probability": 1 / 3}, "task.loop_probability=0.33.*task.branching=2; .* above 1/3"),
        ({"tolerance": 0.02}, "task.tolerance=0.02: .* at least 0.0288,.* below 0.1726"),
        ({"tolerance": 0.18}, "task.tolerance=0.18: .* at least 0.0288,.* below 0.1726"),
        ({"loop_probability": 0.9}, "task.answer_symbols=4: .* use more than 5.0"),
    ],
)
def test_impossible_options(options, told):
    with pytest.raises(Impossible, match=told):
        TypicalSet(**SMALL | options)
