"""The tree-star: trees in training, path-stars in the test."""

import random
from collections import Counter

import pytest
import torch
from test_tree import rows_guessed, trees

from forethought.tasks import Data, Draws, PathStar, TreeStar


@pytest.mark.parametrize("degree", [2, 4])
def test_the_test_consists_of_path_stars(degree):
    """Their files can be read, and chance is theirs: of a policy that looks up one edge."""
    task = TreeStar(degree=degree, path_length=5, num_nodes=20)
    star = PathStar(degree=degree, path_length=5, num_nodes=20)
    batch = task.sample(2000, Draws(1))
    for prompt, answer in zip(batch.prompt[:50], batch.answer[:50], strict=True):
        line = task.text(prompt, answer)
        assert star.parse(line)[1] == answer[:-1].tolist()
    drawn = star.sample(20, Draws(1))
    for prompt, answer in zip(drawn.prompt, drawn.answer, strict=True):
        assert task.parse(star.text(prompt, answer))[1] == [*answer.tolist(), task.end]
    assert task.decision_mask(batch).sum(0).tolist() == [0, 2000, 0, 0, 0, 0]
    outcomes = rows_guessed(task, batch)
    assert {task.outcomes[outcome] for outcome in outcomes.tolist()} == {"right", "wrong_branch"}
    assert (outcomes == 0).double().mean().item() == pytest.approx(task.chance, abs=0.04)


def arms_of(tree):
    """Nodes before the split and on its branches, arm by arm: (n,) without a split, else (s, a, b)."""

    def chain(node):
        nodes = [node]
        while len(tree.children[nodes[-1]]) == 1:
            nodes.append(tree.children[nodes[-1]][0])
        return nodes

    stems = [chain(arm) for arm in tree.children[tree.start]]
    return [(len(stem), *sorted(len(chain(branch)) for branch in tree.children[stem[-1]])) for stem in stems]


def drawn_arm(task, rng):
    """An arm by the words of the docstring, and the nodes on the path to a random leaf."""
    nodes = list(range(1, task.path_length))
    if rng.random() >= task.split_share:
        return (len(nodes),), len(nodes) + 1
    cut = rng.choice(nodes[1:-1])  # an earlier node must be left, and a rest
    hold = rng.choice(nodes[: cut - 1])
    branches = [cut - hold, len(nodes) - cut]
    return (hold, *sorted(branches)), hold + rng.choice(branches) + 1


@pytest.mark.parametrize("split_share", [0.0, 0.5, 1.0])
def test_training_follows_the_law_of_the_docstring(split_share):
    task, rng, count = TreeStar(degree=2, path_length=7, split_share=split_share), random.Random(0), 4000
    batch = task.sample_training(count, Draws(2))
    drawn = trees(task, batch)
    found = Counter(arm for tree in drawn for arm in arms_of(tree))
    expected = Counter(drawn_arm(task, rng)[0] for _ in range(2 * count))
    lengths = Counter(len(tree.path) for tree in drawn)
    of_paths = Counter(drawn_arm(task, rng)[1] for _ in range(count))
    for ours, theirs in ((found, expected), (lengths, of_paths)):
        for value in ours | theirs:
            sigma = (2 * max(ours[value], theirs[value])) ** 0.5
            assert abs(ours[value] - theirs[value]) < 4.5 * sigma, value
    assert (max(lengths) == 7) == (split_share < 1)
    if split_share == 0:
        assert torch.equal(batch.prompt, task.sample(count, Draws(2)).prompt)


def test_no_rule_without_the_goal_finds_the_gold_arm():
    """Neither the order of listing, nor the depth of an arm, nor its split tells it."""
    task = TreeStar(degree=2, path_length=6, split_share=0.6)
    drawn = trees(task, task.sample_training(8000, Draws(3)))
    rules = {"first": [], "deepest": [], "split": []}
    for tree in drawn:
        arms, gold = tree.children[tree.start], tree.path[1]
        depths = [max(len(path) for path in tree.paths if path[1] == arm) for arm in arms]
        splits = [sum(path[1] == arm for path in tree.paths) for arm in arms]
        rules["first"].append(arms[0] == gold)
        for name, values in (("deepest", depths), ("split", splits)):
            if values[0] != values[1]:
                rules[name].append(arms[values.index(max(values))] == gold)
    for name, hits in rules.items():
        assert len(hits) > 2000
        assert sum(hits) / len(hits) == pytest.approx(1 / 2, abs=0.03), name


def test_a_run_trains_on_trees_and_is_tested_on_stars():
    task = TreeStar(degree=2, path_length=4)
    data = Data(task, 0, 256)
    train = [data.batch(step) for step in range(8)]
    assert any(len(arm) > 1 for batch in train for tree in trees(task, batch) for arm in arms_of(tree))
    held_out = [data.test(300), data.validation(300)]
    assert all(arm == (3,) for batch in held_out for tree in trees(task, batch) for arm in arms_of(tree))
    prints = [set(torch.cat([*map(task.fingerprint, rows)]).tolist()) for rows in (train, held_out)]
    assert not prints[0] & prints[1]
    fixed = Data(TreeStar(train_samples=64), 0, 64).batch(0)
    assert any(len(arm) > 1 for tree in trees(TreeStar(), fixed) for arm in arms_of(tree))
