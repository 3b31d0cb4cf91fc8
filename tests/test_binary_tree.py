"""Random binary trees against slow, obvious twins."""

import random
from collections import Counter

import pytest
from test_tree import answers, rows_guessed, trees

from forethought.tasks import BinaryTree, Data, Draws


def grown(leaves, rng):
    """Grow a tree as the docstring says. Return the depths of its leaves, and of a random one."""
    depths = [0]
    while len(depths) < leaves:
        depth = depths.pop(rng.randrange(len(depths)))
        depths += [depth + 1, depth + 1]
    return tuple(sorted(depths)), rng.choice(depths)


@pytest.mark.parametrize("leaves", [3, 6])
def test_trees_follow_the_law_of_the_docstring(leaves):
    task, rng, count = BinaryTree(leaves=leaves), random.Random(0), 4000
    batch = task.sample(count, Draws(1))
    drawn = trees(task, batch)
    found = [(tuple(sorted(len(path) - 1 for path in tree.paths)), len(tree.path) - 1) for tree in drawn]
    assert [depth for _, depth in found] == task.strata(batch)["depth"].tolist()
    assert max(depth for _, depth in found) == task.strata_sizes["depth"] - 1 == leaves - 1
    assert all(len(below) in (0, 2) for tree in drawn for below in tree.children.values())
    ours, theirs = Counter(found), Counter(grown(leaves, rng) for _ in range(count))
    for value in ours | theirs:
        sigma = (2 * max(ours[value], theirs[value])) ** 0.5
        assert abs(ours[value] - theirs[value]) < 4.5 * sigma, value


@pytest.mark.parametrize("leaves", [3, 4, 8])
def test_chance_is_the_accuracy_of_a_policy_that_looks_up_one_edge(leaves):
    task = BinaryTree(leaves=leaves)
    batch = task.sample(4000, Draws(2))
    right = rows_guessed(task, batch) == 0
    assert right.double().mean().item() == pytest.approx(task.chance, abs=0.03)
    for depth in range(1, 4):
        of_depth = right[task.strata(batch)["depth"] == depth]
        share = 2 ** (1 - depth)
        sigma = (len(of_depth) * share * (1 - share)) ** 0.5
        assert abs(of_depth.sum().item() - len(of_depth) * share) <= 4 * sigma
    drawn = trees(task, batch)
    choices = [len(tree.children[node]) for tree in drawn for node in tree.path if tree.decides(node)]
    assert len(choices) == task.decision_mask(batch).sum() > 0
    assert {1 / choice for choice in choices} == {task.decision_chance}


def test_a_policy_that_looks_two_edges_up_solves_three_leaves():
    task = BinaryTree(leaves=3, num_nodes=9)
    batch = task.sample(500, Draws(3))
    paths = []
    for tree in trees(task, batch):
        path = [tree.start]
        while path[-1] != tree.goal:
            below = tree.children[path[-1]]
            open_children = [child for child in below if tree.children[child]]
            path.append(tree.goal if tree.goal in below else open_children[0])
        paths.append(path)
    assert (task.check(batch.prompt, answers(task, batch, paths)) == 0).all()


def is_backward(tree):
    """Each edge stands before those that lead to it."""
    return all(
        tail != later_head
        for place, (_, later_head) in enumerate(tree.edges)
        for tail, _ in tree.edges[place + 1 :]
    )


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_share_of_the_training_graphs_is_listed_backwards(share):
    task = BinaryTree(leaves=8, backward_share=share)
    training, test = (trees(task, draw(1000, Draws(4))) for draw in (task.sample_training, task.sample))
    assert sum(map(is_backward, training)) / 1000 == pytest.approx(share, abs=0.05)
    assert sum(map(is_backward, test)) < 10
    if share == 1:
        first = [tree.children[tree.start][0] == tree.path[1] for tree in training]
        assert sum(first) / 1000 == pytest.approx(1 / 2, abs=0.06)


def test_ids_by_role_are_another_spelling_of_the_same_trees():
    shared, by_role = (BinaryTree(leaves=5, node_ids=ids) for ids in ("shared", "by_role"))
    batches = [task.sample(50, Draws(5)) for task in (shared, by_role)]
    lines = [
        [task.text(prompt, answer) for prompt, answer in zip(batch.prompt, batch.answer, strict=True)]
        for task, batch in zip((shared, by_role), batches, strict=True)
    ]
    assert lines[0] == lines[1]
    assert len(by_role.vocabulary) == len(shared.vocabulary) + 9
    prompt, answer = batches[1].prompt, batches[1].answer
    names = [[by_role.vocabulary[token] for token in row] for row in prompt.tolist()]
    assert all(
        name.startswith(">") == (place % 3 == 1 and place < 23)
        for row in names
        for place, name in enumerate(row)
    )
    other = by_role.outcomes.index("other")
    spoilt = answer.clone()
    spoilt[:, 1] -= by_role.num_nodes  # the token of an edge's beginning
    assert (by_role.check(prompt, spoilt)[by_role.strata(batches[1])["depth"] > 1] == other).all()
    spoilt = answer.clone()
    spoilt[:, 0] += by_role.num_nodes
    assert (by_role.check(prompt, spoilt) == other).all()


def test_the_published_tree_has_graphs_to_hold_out():
    task = BinaryTree(leaves=3)
    assert task.num_nodes == 5
    data = Data(task, 0, 64)
    prints = [task.fingerprint(rows) for rows in (data.batch(0), data.validation(100), data.test(100))]
    parts = [set(keys.tolist()) for keys in prints]
    assert all(parts)
    assert sum(map(len, parts)) == len(set().union(*parts))
