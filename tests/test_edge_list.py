"""Circles and lines from shuffled edges against slow, obvious twins."""

import itertools
import math
import random

import pytest
import torch
from helpers import lines_of

from forethought.errors import Impossible, InputError
from forethought.tasks import CircleConstruction, Data, Draws, LineConstruction

SIZES = {"nodes": 4, "labels": 6, "train_samples": 50}
kinds = pytest.mark.parametrize("kind", [CircleConstruction, LineConstruction], ids=["circle", "line"])


def edges_of(answer):
    return [*zip(answer[0::2], answer[1::2], strict=True)]


def shapes(edges):
    """Return the orders in which some of the edges join, each with True for a circle; None at a branch."""
    tails, heads = zip(*edges, strict=True)
    if len({*tails}) < len(tails) or len({*heads}) < len(heads):
        return None
    found, left = [], [*range(len(edges))]
    for begins in (lambda place: tails[place] not in heads, lambda place: True):
        for place in range(len(edges)):
            if place in left and begins(place):
                walk = [place]
                while heads[walk[-1]] in tails and tails.index(heads[walk[-1]]) != walk[0]:
                    walk.append(tails.index(heads[walk[-1]]))
                found.append((walk, heads[walk[-1]] == tails[walk[0]]))
                left = [other for other in left if other not in walk]
    return found


def outcome(task, answer):
    if max(answer) >= task.labels:
        return "other"
    found = shapes(edges_of(answer))
    if found is None:
        return "branches"
    if len(found) > 1:
        return "pieces"
    return "right" if found[0][1] == task.closes else "wrong_shape"


def outcomes_of(task, answers):
    prompts = task.sample(1, Draws(0)).prompt.expand(len(answers), -1)
    return [task.outcomes[i] for i in task.check(prompts, torch.tensor(answers)).tolist()]


@kinds
def test_outcomes_of_all_short_and_of_many_longer_answers(kind):
    short = kind(nodes=3, labels=3)
    answers = [*itertools.product(range(4), repeat=short.answer_length)]
    assert outcomes_of(short, answers) == [outcome(short, answer) for answer in answers]
    task, generator = kind(**SIZES), random.Random(0)
    rows = task.sample(200, Draws(0)).answer.tolist()
    for row in rows[:150]:  # near misses: two tokens change places, or one changes
        first, second = generator.sample(range(len(row)), 2)
        row[first], row[second] = row[second], generator.choice([row[first], generator.randrange(6)])
    expected = [outcome(task, row) for row in rows]
    assert {*expected} >= {"right", "branches", "pieces"}
    assert outcomes_of(task, rows) == expected


@kinds
def test_objects_are_orders_and_rows_are_uniform_over_them(kind):
    task = kind(**SIZES)
    rows = task.sample(3000, Draws(0))
    assert (task.check(rows.prompt, rows.answer) == 0).all()
    key_of, counts = {}, {}
    for answer, key in zip(
        rows.answer.tolist(), task.canonical(rows.prompt, rows.answer).tolist(), strict=True
    ):
        ((order, _),) = shapes(edges_of(answer))
        assert key_of.setdefault((*order,), key) == key
        counts[key] = counts.get(key, 0) + 1
        assert len({*answer}) == 4
    assert len(key_of) == len(counts) == 6
    assert all(abs(count - 500) < 5 * 500**0.5 for count in counts.values())
    few = task.sample(3, Draws(0))
    assert torch.equal(torch.cat([few.prompt, few.answer], 1), torch.cat([rows.prompt, rows.answer], 1)[:3])


@kinds
def test_chance_is_that_of_a_policy_that_foresees_no_shape(kind):
    """Heads are a random order of the labels, none of them its own tail; a line misses one edge."""
    task, generator, answers = kind(nodes=5, labels=5), random.Random(0), []
    while len(answers) < 4000:
        edges = [*zip(range(5), generator.sample(range(5), 5), strict=True)]
        if all(tail != head for tail, head in edges):
            answers.append([*itertools.chain(*generator.sample(edges, task.answer_length // 2))])
    share = outcomes_of(task, answers).count("right") / 4000
    assert abs(share - task.chance) < 4 * (task.chance * (1 - task.chance) / 4000) ** 0.5
    assert task.chance == math.factorial(4) / 44


@kinds
def test_new_orders_in_the_test_and_text(kind):
    task = kind(nodes=6, labels=8, train_samples=100)
    data = Data(task, 0, 64)
    trained, test = data.training_set, data.test(100)
    lines_of(task, trained[:50])
    keys = [{*task.canonical(rows.prompt, rows.answer).tolist()} for rows in (trained, test)]
    assert not keys[0] & keys[1]
    assert min(map(len, keys)) > 1


def test_wrong_input():
    with pytest.raises(Impossible, match=r"task\.nodes=9: out of range"):
        CircleConstruction(labels=8)
    task = CircleConstruction(**SIZES)
    task.parse("qxbau=4,0|1,4|3,1|0,3")
    for line, message in (
        ("qxbau=4,0|1,4|3,1", r"8 nodes in the form u,v\|u,v\|…"),
        ("qxbau=4,0|1,4|3,1|0,6", "node 6 is out of range; expected 0…5"),
        ("qxbau=4,0|0,4|3,1|1,3", "pieces"),
    ):
        with pytest.raises(InputError, match=message):
            task.parse(line)
