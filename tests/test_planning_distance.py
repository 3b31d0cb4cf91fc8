"""Two merging streams against slow, obvious twins."""

import dataclasses
import itertools
import json
import random
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from forethought.errors import InputError
from forethought.tasks import Data, Draws, PlanningDistance

TOKENS = ["nodes", "characters"]
tasks = st.builds(
    PlanningDistance,
    path_length=st.integers(3, 7),
    reverse=st.booleans(),
    tokens=st.sampled_from(TOKENS),
)
every_form = pytest.mark.parametrize("tokens", TOKENS)


def read_prompt(task, prompt):
    """Edges, start and goal, token by token."""
    vocabulary = task.vocabulary  # built at each access
    names = [vocabulary[token] for token in prompt]
    if task.tokens == "characters":
        listed, query = "".join(names).lstrip("$").removesuffix("=").split("-")
        edges = [tuple(edge.split(",")) for edge in listed.split("/")]
        return edges, *query.split(",")
    assert names[-4] == "-"
    assert names[-1] == "="
    listed = names[:-4]
    assert listed[2::3] == ["/"] * (task.num_edges - 1)
    return list(zip(listed[::3], listed[1::3], strict=True)), names[-3], names[-2]


def walks(edges, start, steps):
    """Every walk of so many steps."""
    paths = [[start]]
    for _ in range(steps):
        paths = [[*path, head] for path in paths for tail, head in edges if tail == path[-1]]
    return paths


def gold_path(task, prompt):
    edges, start, goal = read_prompt(task, prompt)
    (path,) = (p for p in walks(edges, start, task.path_length - 1) if p[-1] == goal)
    return path


def written(task, path):
    """The tokens of an answer that visits these nodes in this order, cut if they are too many."""
    if task.tokens == "characters":
        names = [*"/".join(f"{a},{b}" for a, b in itertools.pairwise(path)), "end"]
    else:
        names = " / ".join(f"{a} {b}" for a, b in itertools.pairwise(path)).split()
    padding = ["$"] * (task.answer_length - len(names))
    vocabulary = task.vocabulary  # built at each access
    return [vocabulary.index(name) for name in (names + padding)[: task.answer_length]]


def slow_distance(task, prompt):
    """Edges from the shared node to the goal. Only the shared node has more edges than its place needs."""
    edges, _, _ = read_prompt(task, prompt)
    path = gold_path(task, prompt)
    (place,) = (
        i
        for i, node in enumerate(path)
        if sum(tail == node for tail, _ in edges) > (i < len(path) - 1)
        or sum(head == node for _, head in edges) > (i > 0)
    )
    return len(path) - 1 - place


@settings(max_examples=40, deadline=None)
@given(tasks, st.integers(0, 2**31))
def test_every_graph_is_two_streams_and_the_answer_its_path(task, seed):
    batch = task.sample(8, Draws(seed))
    assert batch.prompt.shape == (8, task.prompt_length)
    assert batch.answer.shape == (8, task.answer_length)
    distances = task.strata(batch)["planning_distance"].tolist()
    for prompt, answer, distance in zip(batch.prompt.tolist(), batch.answer.tolist(), distances, strict=True):
        edges, _, _ = read_prompt(task, prompt)
        assert len(set(edges)) == task.num_edges
        assert len({node for edge in edges for node in edge}) == 2 * task.path_length - 1
        path = gold_path(task, prompt)
        assert answer == written(task, path[::-1] if task.reverse else path)
        assert distance == slow_distance(task, prompt)
    assert (task.check(batch.prompt, batch.answer) == 0).all()
    other = dataclasses.replace(task, reverse=not task.reverse)
    assert (task.check(batch.prompt, other.sample(8, Draws(seed)).answer) == 0).all(), "or its reverse"


def test_every_planning_distance_is_equally_frequent():
    task = PlanningDistance(path_length=5)
    batch = task.sample(20_000, Draws(1))
    counts = task.strata(batch)["planning_distance"].bincount()
    assert len(counts) == task.strata_sizes["planning_distance"] == 5
    assert ((counts - 4000).abs() < 4 * 4000**0.5).all()


def slow_outcome(task, prompt, answer):
    edges, start, goal = read_prompt(task, prompt)
    names = [task.vocabulary[token] for token in answer]
    path = [names[0], *names[1::3]]
    if task.tokens == "characters":
        text = "".join(names).partition("end")[0] if "end" in names else ""
        number = "(?:0|[1-9][0-9]*)"
        if not re.fullmatch(f"{number},{number}(?:/{number},{number})*", text):
            return "other"
        steps = [edge.split(",") for edge in text.split("/")]
        path = [steps[0][0], *(head for _, head in steps)]
        if len(path) != task.path_length or any(a[1] != b[0] for a, b in itertools.pairwise(steps)):
            return "other"
    elif answer != written(task, path):
        return "other"
    if not all(name.isdigit() and int(name) < task.num_nodes for name in path):
        return "other"
    if path[0] == goal:
        edges, start, goal = [(head, tail) for tail, head in edges], goal, start
    if path[0] != start:
        return "other"
    steps = [pair in edges for pair in itertools.pairwise(path)]
    if all(steps) and path[-1] == goal:
        return "right"
    return "wrong_branch" if all(steps[:-1]) and (steps[-1] or path[-1] == goal) else "broken_edge"


@settings(max_examples=100, deadline=None)
@given(tasks, st.integers(0, 2**31))
def test_anatomy_of_errors_against_a_slow_twin(task, seed):
    """Answers made wrong in every way: the other branch, its end replaced, a broken step, any token."""
    rng = random.Random(seed)
    batch = task.sample(16, Draws(seed))
    answers = []
    for prompt in batch.prompt.tolist():
        edges, start, goal = read_prompt(task, prompt)
        if rng.random() < 0.5:
            edges, start, goal = [(head, tail) for tail, head in edges], goal, start
        path = rng.choice(walks(edges, start, task.path_length - 1))
        kind = rng.randrange(5)
        if kind == 1:
            path[-1] = goal
        elif kind == 2:
            path[rng.randrange(len(path))] = str(rng.randrange(task.num_nodes))
        answers.append(written(task, path))
        if kind == 3:
            answers[-1][rng.randrange(task.answer_length)] = rng.randrange(len(task.vocabulary))
        if kind == 4 and task.end in answers[-1]:
            place = answers[-1].index(task.end)
            answers[-1][place + 1 :] = rng.choices(
                range(len(task.vocabulary)), k=len(answers[-1]) - place - 1
            )
            if rng.random() < 0.5:
                answers[-1].insert(rng.randrange(place), rng.randrange(len(task.vocabulary)))
                answers[-1].pop()
    found = [task.outcomes[i] for i in task.check(batch.prompt, torch.tensor(answers)).tolist()]
    rows = zip(batch.prompt.tolist(), answers, strict=True)
    assert found == [slow_outcome(task, prompt, answer) for prompt, answer in rows]


def follow(task, prompt, rng):
    """Answer like a policy that knows the rules and cannot plan. Return the places of its guesses, too."""
    edges, start, goal = read_prompt(task, prompt)
    if task.reverse:
        edges, start, goal = [(head, tail) for tail, head in edges], goal, start
    path, guesses = [start], []
    while len(path) < task.path_length:
        heads = [head for tail, head in edges if tail == path[-1]]
        if len(heads) == 2 and goal not in heads:
            a, b = ("/".join([*map(",".join, itertools.pairwise([*path, head])), ""]) for head in heads)
            same = next(place for place, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
            guesses.append(same if task.tokens == "characters" else 3 * len(path) - 2)
        path.append(goal if goal in heads else rng.choice(heads))
    return written(task, path), guesses


@every_form
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("path_length", [3, 6])
def test_chance_and_decisions_are_those_of_a_policy_that_cannot_plan(path_length, reverse, tokens):
    task = PlanningDistance(path_length=path_length, reverse=reverse, tokens=tokens)
    rng, count = random.Random(0), 6000
    batch = task.sample(count, Draws(2))
    rows = [follow(task, prompt, rng) for prompt in batch.prompt.tolist()]
    answers = torch.tensor([answer for answer, _ in rows])
    right = (task.check(batch.prompt, answers) == 0).double()
    assert abs(right.mean().item() - task.chance) < 4 * 0.5 / count**0.5
    mask = task.decision_mask(batch)
    assert mask.sum(1).tolist() == [len(guesses) for _, guesses in rows]
    # Along the gold path, the policy guesses exactly at the decisions.
    gold = (answers == batch.answer).all(1)
    assert [row.nonzero()[:, 0].tolist() for row in mask[gold]] == [
        guesses for (_, guesses), is_gold in zip(rows, gold.tolist(), strict=True) if is_gold
    ]
    hits = (answers == batch.answer)[mask].double().mean().item()
    assert abs(hits - task.decision_chance) < 4 * 0.5 / mask.sum().item() ** 0.5


@every_form
def test_the_widths_are_those_of_the_longest_rows(tokens):
    task = PlanningDistance(tokens=tokens)
    batch = task.sample(2000, Draws(0))
    assert (batch.prompt[:, 0] != task.dummy).any()
    assert (batch.answer[:, -1] != task.dummy).any()
    assert task.padded_prompts == (batch.prompt == task.dummy).any()


@every_form
def test_a_graph_is_held_out_with_all_orders_of_its_edges_and_all_paths(tokens):
    task = PlanningDistance(path_length=6, tokens=tokens)
    batch = task.sample(200, Draws(5))
    pairs = torch.stack(task._graph(batch.prompt)[:2], 2)[:, Draws(1).permutation(1, 10)[0]]
    paths = []
    for prompt in batch.prompt.tolist():
        edges, start, goal = read_prompt(task, prompt)
        (other, *_) = {tail for tail, _ in edges} - {head for _, head in edges} - {start} or {start}
        walk = next(path for path in walks(edges, other, 5) if other != start or path[-1] != goal)
        paths.append([int(name) for name in walk])
    relisted = task._batch(pairs, torch.tensor(paths))
    assert (task.check(relisted.prompt, relisted.answer) == 0).all()
    assert not (relisted.answer == batch.answer).all(1).any()
    assert torch.equal(task.fingerprint(relisted), task.fingerprint(batch))
    assert len(task.fingerprint(batch).unique()) == 200


def test_no_graph_is_trained_on_and_tested():
    task = PlanningDistance(path_length=3)
    data = Data(task, 0, 500)
    graphs = [
        {frozenset(read_prompt(task, prompt)[0]) for prompt in rows.prompt.tolist()}
        for rows in (data.batch(0), data.batch(1), data.test(300), data.validation(300))
    ]
    train = graphs[0] | graphs[1]
    assert train
    assert not train & graphs[2]
    assert not train & graphs[3]
    assert not graphs[2] & graphs[3]


@settings(max_examples=40, deadline=None)
@given(tasks, st.integers(0, 2**31))
def test_text_form_round_trips(task, seed):
    batch = task.sample(4, Draws(seed))
    for prompt, answer in zip(batch.prompt, batch.answer, strict=True):
        read = task.pad(*([part] for part in task.parse(task.text(prompt, answer))))
        assert torch.equal(read.prompt[0], prompt)
        assert torch.equal(read.answer[0], answer)


def test_a_line_of_the_published_test_set():
    line = (
        '{"input": "6,2/2,10/1,9/2,0/5,3/0,11/4,1/10,4/8,2/11,5-8,3", "output": "8,2/2,0/0,11/11,5/5,3", '
        '"reversed": "3,5/5,11/11,0/0,2/2,8"}'
    )
    for tokens in TOKENS:
        task = PlanningDistance(tokens=tokens)
        batch = task.pad(*([part] for part in task.parse(line)))
        assert task.text(batch.prompt[0], batch.answer[0]) == line
        assert task.strata(batch)["planning_distance"].item() == 4
    prompt, answer = ("".join(task.vocabulary[token] for token in part) for part in task.parse(line))
    row = json.loads(line)
    assert (prompt, answer) == (row["input"] + "=", row["output"] + "end")


def test_docstring_instance():
    line = '{"input": "0,1/5,2/6,0/0,7/3,6/2,0-5,7", "output": "5,2/2,0/0,7"}'
    for tokens in TOKENS:
        task = PlanningDistance(path_length=4, tokens=tokens)
        batch = task.pad(*([part] for part in task.parse(line)))
        assert json.loads(task.text(batch.prompt[0], batch.answer[0])) == {
            **json.loads(line),
            "reversed": "7,0/0,2/2,5",
        }
        assert task.strata(batch)["planning_distance"].item() == 1
        assert not task.decision_mask(batch).any()


@pytest.mark.parametrize(("branches", "end", "place"), [((10, 11), 0, 7), ((1, 10), 0, 7), ((1, 0), 10, 6)])
def test_the_decision_is_the_first_character_that_tells_the_branches_apart(branches, end, place):
    """Of 5,2/2,10/… the second digit against 5,2/2,11/…; it is the end of the node in 5,2/2,1/…."""
    line = "5,2/2,{0}/{0},7/7,8/8,9/3,2/2,{1}/{1},6/6,4/4,{2}-5,9"
    path = "5,2/2,{0}/{0},7/7,8/8,9"
    task = PlanningDistance(tokens="characters")
    for pair in (branches, branches[::-1]):
        row = json.dumps({"input": line.format(*pair, end), "output": path.format(*pair)})
        batch = task.pad(*([part] for part in task.parse(row)))
        assert task.decision_mask(batch)[0].nonzero().flatten().tolist() == [place]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "malformed"),
        ("[1]", "malformed"),
        ("null", "malformed"),
        ('{"input": "0,1-0,1"}', "malformed"),
        ('{"input": 3, "output": "0,1"}', "malformed"),
        ('{"input": "0,1/1,2-0,x", "output": "0,1/1,2"}', "malformed"),
        ('{"input": "0,1/1,2-0,2", "output": "0,1/1,2"}', "a path of 2 edges in 2 edges.*expected 2 in 4"),
        ('{"input": "0,1/1,2/3,1/1,6-0,2", "output": "0,1/1,2"}', "node 6 is out of range.*0…5"),
        ('{"input": "0,1/1,2/3,1/1,4-0,2", "output": "0,1/1,4"}', "not the path from 0 to 2"),
        ('{"input": "0,1/1,2/3,1/1,4-0,2", "output": "0,1/3,2"}', "not the path from 0 to 2"),
        ('{"input": "0,1/1,2/3,4/4,5-0,2", "output": "0,1/1,2"}', "not two streams"),
        ('{"input": "0,1/1,2/3,0/0,4-0,2", "output": "0,1/1,2"}', "not two streams"),
        ('{"input": "0,1/1,2/3,1/3,4-0,2", "output": "0,1/1,2"}', "not two streams"),
        ('{"input": "0,1/1,2/0,1/1,4-0,2", "output": "0,1/1,2"}', "not two streams"),
        ('{"input": "0,1/1,2/0,3/3,2-0,2", "output": "0,1/1,2"}', "not two streams"),
        ('{"input": "0,1/1,2/3,4/4,3-0,2", "output": "0,1/1,2"}', "not two streams"),
    ],
)
def test_bad_lines_name_file_and_line(tmp_path, line, message):
    path = tmp_path / "graphs.txt"
    path.write_text(f'{{"input": "0,1/1,2/3,1/1,4-0,2", "output": "0,1/1,2"}}\n{line or "{}"}\n')
    with pytest.raises(InputError, match=message) as caught:
        PlanningDistance(path_length=3).read(str(path))
    assert f"{path}: line 2: " in str(caught.value)


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet='0123456789,/-"{}: inputo', max_size=60))
def test_any_line_is_read_or_refused(line):
    with pytest.raises(InputError):
        PlanningDistance().parse(line)
