"""Siblings of a hidden world against slow, obvious twins."""

import itertools
import random

import pytest
import torch
from helpers import lines_of

from forethought.errors import Impossible, InputError
from forethought.tasks import Batch, Data, Draws, SiblingDiscovery
from forethought.tasks.base import TEST

LAST, FIRST = (SiblingDiscovery(parents=3, children=4, parent_first=first) for first in (False, True))
orders = pytest.mark.parametrize("task", [LAST, FIRST], ids=["parent last", "parent first"])


def split(task, answer):
    return (answer[1:], answer[0]) if task.parent_first else (answer[:2], answer[2])


def world(task):
    """Children of each parent, as many rows tell them."""
    children = {}
    for answer in task.sample(2000, Draws(1)).answer.tolist():
        pair, parent = split(task, answer)
        children.setdefault(parent, set()).update(pair)
    return children


def outcome(task, answer):
    (first, second), parent = split(task, answer)
    of_child = {child: parent for parent, pair in world_of[task.parent_first].items() for child in pair}
    if first == second or not {first, second} <= of_child.keys() or parent not in of_child.values():
        return "other"
    if of_child[first] != of_child[second]:
        return "not_siblings"
    return "right" if of_child[first] == parent else "wrong_parent"


world_of = {task.parent_first: world(task) for task in (LAST, FIRST)}


def test_one_hidden_world():
    assert world_of[False] == world_of[True]
    assert [len(children) for children in world_of[False].values()] == [4] * 3
    assert {*world_of[False]}.union(*world_of[False].values()) == {*range(15)}
    other = SiblingDiscovery(parents=3, children=4, graph_seed=1)
    assert world(other) != world_of[False]


@orders
def test_outcomes_and_objects_of_all_answers(task):
    tokens = [*range(16), task.dummy]
    answers = torch.tensor([*itertools.product(tokens, repeat=3)])
    prompts = task.sample(1, Draws(0)).prompt.expand(len(answers), -1)
    outcomes = [task.outcomes[i] for i in task.check(prompts, answers).tolist()]
    assert outcomes == [outcome(task, answer) for answer in answers.tolist()]
    keys, objects = {}, {}
    for answer, key, kind in zip(
        answers.tolist(), task.canonical(prompts, answers).tolist(), outcomes, strict=True
    ):
        if kind == "right":
            pair, parent = split(task, answer)
            keys.setdefault((frozenset(pair), parent), set()).add(key)
            objects.setdefault(key, set()).add((frozenset(pair), parent))
    assert len(keys) == len(objects) == 3 * 6
    assert {*map(len, keys.values()), *map(len, objects.values())} == {1}


@orders
def test_accepted_tokens_complete_to_right_answers(task):
    rows = task.sample(30, Draws(0))
    assert (task.check(rows.prompt, rows.answer) == 0).all()
    for answer, accepted in zip(rows.answer.tolist(), task.accepted(rows), strict=True):
        for place, mask in enumerate(accepted):
            right = {
                other[place]
                for other in itertools.product(range(15), repeat=3)
                if [*other[:place]] == answer[:place] and outcome(task, other) == "right"
            }
            assert {*mask.nonzero()[:, 0].tolist()} == right


def test_chance_is_that_of_a_policy_without_foresight():
    """Children that are drawn before their parent are any two children."""
    generator, hits = random.Random(0), 0
    parent_of = {child: parent for parent, pair in world_of[False].items() for child in pair}
    for _ in range(20_000):
        first, second = generator.sample(sorted(parent_of), 2)
        hits += parent_of[first] == parent_of[second]
    assert abs(hits / 20_000 - LAST.chance) < 4 * (LAST.chance / 20_000) ** 0.5
    assert (FIRST.chance, FIRST.needs_plan, LAST.needs_plan) == (1, False, True)
    assert LAST.decision_mask(LAST.sample(2, Draws(0))).tolist() == [[False, True, False]] * 2
    assert not FIRST.decision_mask(FIRST.sample(2, Draws(0))).any()


@pytest.mark.parametrize("seed_length", [0, 5])
def test_new_seeds_and_new_objects_in_the_test(seed_length):
    task = SiblingDiscovery(parents=3, children=20, train_samples=300, seed_length=seed_length)
    data = Data(task, 0, 64)
    trained, test = data.training_set, data.test(100)
    assert task.prompt_length == seed_length + 1
    seeds = [{*map(tuple, rows.prompt.tolist())} for rows in (trained, test)]
    assert [*map(len, seeds)] == ([300, 100] if seed_length else [1, 1])
    assert len(seeds[0] & seeds[1]) == (0 if seed_length else 1)
    keys = [{*task.canonical(rows.prompt, rows.answer).tolist()} for rows in (trained, test)]
    assert not keys[0] & keys[1]
    assert min(map(len, keys)) > 10
    assert (task.part(test) == TEST).all()
    # A training row keeps its seed in every epoch.
    lines = {line for step in range(9) for line in lines_of(task, data.batch(step))}
    assert lines <= {*lines_of(task, trained)}
    few, many = task.sample(3, Draws(1)), task.sample(500, Draws(1))
    assert torch.equal(torch.cat([few.prompt, few.answer], 1), torch.cat([many.prompt, many.answer], 1)[:3])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train_samples": None}, "task.train_samples=null"),
        ({"parents": 1000, "children": 100}, "task.parents=1000, task.children=100"),
    ],
)
def test_impossible_options(options, message):
    with pytest.raises(Impossible, match=message):
        SiblingDiscovery(**options)
    SiblingDiscovery(train_samples=None, train_file="rows.txt")


def test_malformed_lines():
    row = Batch(*(side[:1] for side in vars(LAST.sample(1, Draws(0))).values()))
    (line,) = lines_of(LAST, row)
    first, *rest = line.split(",")
    for wrong, message in (
        (line[1:], "5 letters of a seed"),
        (line + ",1", "form u,v,w"),
        (f"{first},15,{rest[1]}", "node 15 is out of range; expected 0…14"),
        (f"{first},{first.partition('=')[2]},{rest[1]}", "other"),
    ):
        with pytest.raises(InputError, match=message):
            LAST.parse(wrong)
