"""Paths in a fixed graph against slow, obvious twins."""

import itertools
import random
from collections import Counter
from functools import lru_cache

import networkx
import pytest
import torch
from helpers import lines_of
from hypothesis import given, settings
from hypothesis import strategies as st

from forethought.errors import Impossible, InputError
from forethought.tasks import Batch, Data, Draws, TransitivePath
from forethought.tasks.base import TEST, TRAIN, VALIDATION

SMALL = TransitivePath(num_nodes=16, edge_probability=0.25)
BLOCKS = TransitivePath(graph="blocksworld", num_nodes=13, train_share=0.2)


def successors(task):
    return {node: row.nonzero()[:, 0].tolist() for node, row in enumerate(task._world().is_edge)}


class Slow:
    """All paths of a graph; of Blocksworld the shortest."""

    def __init__(self, task):
        self.task, self.after = task, successors(task)
        self.graph, is_connected = networkx.DiGraph(self.after), task.graph == "blocksworld"
        self.paths = lru_cache(None)(self._all_paths if task.graph == "random" else self._shortest_paths)
        pairs = itertools.permutations(range(task.num_nodes), 2)
        self.pairs = [(s, t) for s, t in pairs if is_connected or self.paths(s, t)]
        prompts = torch.tensor(self.pairs)
        self.rows = Batch(prompts, torch.zeros(len(prompts), task.answer_length, dtype=torch.long))

    def _all_paths(self, source, target):
        if source == target:
            return [[target]]
        return [[source, *rest] for u in self.after[source] for rest in self.paths(u, target)]

    def _shortest_paths(self, source, target):
        return list(networkx.all_shortest_paths(self.graph, source, target))

    def useful(self, node, target):
        """The next nodes of paths."""
        return sorted({path[1] for path in self.paths(node, target)})

    def candidates(self, node, target):
        """The next nodes of a policy that cannot plan."""
        return [u for u in self.after[node] if u <= target or self.task.graph == "blocksworld"]


GRAPHS = {"random": Slow(SMALL), "blocksworld": Slow(BLOCKS)}
every_graph = pytest.mark.parametrize("slow", GRAPHS.values(), ids=GRAPHS)
FOUR_BLOCKS = Slow(TransitivePath(graph="blocksworld", num_nodes=73))
GRAPHS_TO_WALK = GRAPHS | {"40": Slow(TransitivePath(num_nodes=40, graph_seed=3)), "73": FOUR_BLOCKS}
every_walk = pytest.mark.parametrize("slow", GRAPHS_TO_WALK.values(), ids=GRAPHS_TO_WALK)


def slow_states(blocks):
    """Every state as what each block stands on: another block or None, the table."""
    for supports in itertools.product([*range(blocks), None], repeat=blocks):
        taken = [support for support in supports if support is not None]

        def height(block, seen=(), supports=supports):
            if block in seen:
                return False
            return supports[block] is None or height(supports[block], (*seen, block))

        if len(set(taken)) == len(taken) and all(map(height, range(blocks))):
            yield supports


@pytest.mark.parametrize(("num_nodes", "blocks"), [(13, 3), (73, 4)])
def test_blocksworld_is_the_graph_of_its_moves(num_nodes, blocks):
    """A move changes what one block stands on, with nothing on that block before and after."""
    graph = networkx.DiGraph()
    graph.add_nodes_from(slow_states(blocks))
    for a, b in itertools.permutations(graph, 2):
        changed = [block for block in range(blocks) if a[block] != b[block]]
        if len(changed) == 1 and changed[0] not in (*a, *b):
            graph.add_edge(a, b)
    task = TransitivePath(graph="blocksworld", num_nodes=num_nodes)
    found = networkx.DiGraph([(s, t) for s, heads in successors(task).items() for t in heads])
    assert len(found) == num_nodes
    assert found.has_edge(0, 1)
    assert networkx.is_isomorphic(found, graph)
    lengths = [length for _, row in networkx.all_pairs_shortest_path_length(graph) for length in row.values()]
    counts = Counter(task._world().steps[:-1].flatten().tolist())
    assert counts == Counter(lengths)
    assert task.answer_length == max(lengths) + 2
    assert task.strata_sizes == {"degree": 4, "length": max(lengths) + 1}


def read_rows(task, batch):
    """Source, target and path of each row."""
    rows = []
    for (source, target), answer in zip(batch.prompt.tolist(), batch.answer.tolist(), strict=True):
        length = answer.index(task.end)
        assert answer[length + 1 :] == [task.dummy] * (len(answer) - length - 1)
        rows.append((source, target, answer[:length]))
    return rows


@every_graph
def test_rows_are_paths_of_all_pairs(slow):
    task = slow.task
    batch = task.sample(20_000, Draws(0))
    rows = read_rows(task, batch)
    assert all(path in slow.paths(source, target) for source, target, path in rows)
    assert max(len(path) for pair in slow.pairs for path in slow.paths(*pair)) == task.answer_length - 1
    assert (task.check(batch.prompt, batch.answer) == 0).all()
    # Twenty random paths of a pair for each single-edge path of an edge.
    edges = [(tail, head) for tail, heads in slow.after.items() for head in heads]
    lines = 20 * len(slow.pairs) + len(edges)
    counts = Counter((source, target) for source, target, _ in rows)
    assert counts.keys() == set(slow.pairs)
    for pair in slow.pairs:
        expected = 20_000 * (20 + (pair in edges)) / lines
        assert abs(counts[pair] - expected) < 5 * expected**0.5


def probability(slow, source, target, path):
    """Of a path whose every step is uniform over the next nodes of paths."""
    if source == target:
        return 1.0
    return probability(slow, path[1], target, path[1:]) / len(slow.useful(source, target))


@pytest.mark.parametrize("slow", [GRAPHS["random"], FOUR_BLOCKS], ids=GRAPHS)
@pytest.mark.slow
def test_each_step_is_uniform_over_the_next_nodes_of_paths(slow):
    rows = read_rows(slow.task, slow.task.sample(100_000, Draws(1)))
    edges = [(s, t) for s, t in slow.pairs if t in slow.after[s]]
    source, target = max(set(slow.pairs) - set(edges), key=lambda pair: len(slow.paths(*pair)))
    counts = Counter(tuple(path) for s, t, path in rows if (s, t) == (source, target))
    assert len(slow.paths(source, target)) >= 3
    for path in slow.paths(source, target):
        expected = counts.total() * probability(slow, source, target, path)
        assert abs(counts[tuple(path)] - expected) < 4 * expected**0.5 + 1
    # Of 21 lines of an edge, one is the edge alone. In Blocksworld, all are.
    counts = Counter((s, t) for s, t, _ in rows)
    shares = {pair: (20 * probability(slow, *pair, list(pair)) + 1) / 21 for pair in edges}
    expected = sum(counts[pair] * share for pair, share in shares.items())
    variance = sum(counts[pair] * share * (1 - share) for pair, share in shares.items())
    assert abs(sum(len(path) == 2 for _, _, path in rows) - expected) <= 4 * variance**0.5


@every_graph
def test_degrees_are_those_of_the_definition(slow):
    """Observed: on a path of a training pair, other than as its source."""
    parts = dict(zip(slow.pairs, slow.task.part(slow.rows).tolist(), strict=True))
    train = [pair for pair, part in parts.items() if part == TRAIN]
    observed = {(node, t) for s, t in train for path in slow.paths(s, t) for node in path[1:]}

    def degree(source, target):
        nodes = {source}
        for number in range(3):
            if any((node, target) in observed for node in nodes):
                return number
            nodes = {u for node in nodes for u in slow.after[node]}
        return 3

    degrees = [degree(*pair) for pair in slow.pairs]
    strata = slow.task.strata(slow.rows)
    assert strata["degree"].tolist() == degrees
    assert {0, 1, 2} <= set(degrees)
    assert slow.task.strata_sizes["degree"] == 4
    if slow.task is BLOCKS:
        assert strata["length"].tolist() == [len(slow.paths(*pair)[0]) - 1 for pair in slow.pairs]
    assert strata.keys() == slow.task.strata_sizes.keys()


@pytest.mark.parametrize("options", [{}, {"graph": "blocksworld", "num_nodes": 73}], ids=GRAPHS)
def test_pairs_are_divided_and_edges_are_for_training(options):
    task = TransitivePath(train_share=0.3, **options)
    batch = task.sample(20_000, Draws(0))
    parts = dict(zip(map(tuple, batch.prompt.tolist()), task.part(batch).tolist(), strict=True))
    after = successors(task)
    edges = {(s, t) for s, t in parts if t in after[s]}
    assert all(parts[pair] == TRAIN for pair in edges)
    shares = Counter(part for pair, part in parts.items() if pair not in edges)
    for part, share in ((TRAIN, 0.3), (VALIDATION, 0.7 / 8), (TEST, 0.7 * 7 / 8)):
        assert abs(shares[part] / shares.total() - share) < 4 * (share / shares.total()) ** 0.5


@every_graph
def test_no_pair_is_trained_on_and_tested(slow):
    data = Data(slow.task, 0, 500)
    train, test, validation = (
        {tuple(pair) for pair in rows.prompt.tolist()}
        for rows in (data.batch(0), data.test(500), data.validation(500))
    )
    assert train
    assert not train & test
    assert not train & validation
    assert not test & validation


def test_graph_seed_alone_draws_the_world():
    task = TransitivePath(num_nodes=16, edge_probability=0.25, train_samples=5)
    assert torch.equal(task._world().is_edge, SMALL._world().is_edge)
    other = TransitivePath(num_nodes=16, edge_probability=0.25, graph_seed=1)
    assert not torch.equal(other._world().is_edge, SMALL._world().is_edge)
    shares = [TransitivePath(graph_seed=seed)._world().is_edge.sum().item() for seed in range(20)]
    assert abs(sum(shares) / 20 - 0.1 * 4950) < 4 * (0.09 * 4950 / 20) ** 0.5


def slow_outcome(task, prompt, answer):
    if task.end not in answer or answer[0] != prompt[0]:
        return "other"
    path = answer[: answer.index(task.end)]
    if any(token >= task.num_nodes for token in path):
        return "other"
    after = successors(task)
    if any(head not in after[tail] for tail, head in itertools.pairwise(path)):
        return "missing_edge"
    return "right" if path[-1] == prompt[1] else "wrong_end"


@every_graph
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_anatomy_of_errors_against_a_slow_twin(slow, seed):
    """Answers made wrong in every way, or right in another way."""
    task, rng = slow.task, random.Random(seed)
    batch = task.sample(30, Draws(seed))
    answers = batch.answer.clone()
    width = task.answer_length
    for row, (source, target) in enumerate(batch.prompt.tolist()):
        kind = rng.randrange(5)
        path = rng.choice(slow.paths(source, target))
        if kind == 1:
            path = [source]
            while slow.after[path[-1]] and rng.random() < 0.9 and len(path) < width - 1:
                path.append(rng.choice(slow.after[path[-1]]))
        written = [*path, task.end]
        if kind == 2:
            written[rng.randrange(len(written))] = rng.randrange(len(task.vocabulary))
        if kind == 3:
            written = [source, *(rng.randrange(task.num_nodes) for _ in range(width - 1))]
        rest = [rng.randrange(len(task.vocabulary)) for _ in range(width - len(written))]
        answers[row] = torch.tensor(written + (rest if kind == 4 else [task.dummy] * len(rest)))
    found = [task.outcomes[i] for i in task.check(batch.prompt, answers).tolist()]
    rows = zip(batch.prompt.tolist(), answers.tolist(), strict=True)
    assert found == [slow_outcome(task, prompt, answer) for prompt, answer in rows]


def test_a_detour_in_blocksworld_is_right():
    detour = [0, 1, 0, 1, BLOCKS.end, BLOCKS.dummy]
    assert BLOCKS.check(torch.tensor([[0, 1]]), torch.tensor([detour])).tolist() == [0]


@every_walk
def test_chance_is_that_of_a_random_walk_that_knows_the_edges(slow):
    task, rng, count = slow.task, random.Random(0), 4000
    batch = Data(task, 0, 16).test(count)
    answers, width = [], task.answer_length
    for source, target in batch.prompt.tolist():
        path = [source]
        while path[-1] != target and len(path) < width - 1:
            if not (heads := slow.candidates(path[-1], target)):
                break
            path.append(target if target in heads else rng.choice(heads))
        answers.append([*path, task.end, *[task.dummy] * width][:width])
    right = (task.check(batch.prompt, torch.tensor(answers)) == 0).double().mean().item()
    assert 0.1 < task.chance < 0.9
    assert abs(right - task.chance) < 4 * 0.5 / count**0.5


@every_walk
def test_decisions_and_accepted_tokens(slow):
    """A step is a decision if a random one of its candidates may not be on a path."""
    task, rng = slow.task, random.Random(0)
    batch = Data(task, 0, 16).test(4000)
    mask, accepted, hits = task.decision_mask(batch).tolist(), task.accepted(batch), []
    for row, (_, target, path) in enumerate(read_rows(task, batch)):
        expected = [False] * task.answer_length
        for place, node in enumerate(path[:-1], 1):
            heads, useful = slow.candidates(node, target), slow.useful(node, target)
            expected[place] = target not in heads and len(useful) < len(heads)
            if expected[place]:
                hits.append(rng.choice(heads) in useful)
            if row < 300:
                assert accepted[row, place].nonzero()[:, 0].tolist() == useful
        assert mask[row] == expected
    others = torch.arange(task.answer_length) >= (batch.answer != task.dummy).sum(1, keepdim=True) - 1
    others[:, 0] = True
    assert torch.equal(accepted.int().argmax(2)[others], batch.answer[others])
    assert (accepted.sum(2)[others] == 1).all()
    assert abs(sum(hits) / len(hits) - task.decision_chance) < 4 * 0.5 / len(hits) ** 0.5


@every_graph
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_text_form_round_trips(slow, seed):
    task = slow.task
    batch = task.sample(6, Draws(seed))
    texts = lines_of(task, batch)
    assert texts == [" ".join(map(str, [s, t, *path])) for s, t, path in read_rows(task, batch)]


@every_graph
def test_the_drawing_has_the_paths_to_the_target(slow):
    source, target = max(slow.pairs, key=lambda pair: len(slow.paths(*pair)))
    steps = {step for path in slow.paths(source, target) for step in itertools.pairwise(map(str, path))}
    drawing = slow.task.drawing(torch.tensor([source, target]))
    assert {tuple(edge) for edge in drawing["edges"]} == steps
    assert (drawing["start"], drawing["goal"]) == (str(source), str(target))


def test_bad_lines_name_file_and_line(tmp_path):
    slow = GRAPHS["random"]
    source, target = next(pair for pair in slow.pairs if pair[1] not in slow.after[pair[0]])
    good = " ".join(map(str, [source, target, *slow.paths(source, target)[0]]))
    lines = {
        f"{source} {target}": "malformed",
        f"{good} x": "malformed",
        f"{good}  1": "malformed",
        "0 16 0 16": "node 16 is out of range for task.num_nodes=16; expected 0…15",
        f"{source} {target} {source} {target}": f"not a path from {source} to {target}",
        f"{target} {good.partition(' ')[2]}": f"not a path from {target} to {target}",
        " ".join(good.split()[:-1] * 2): "not a path",
    }
    path = tmp_path / "paths.txt"
    for line, message in lines.items():
        path.write_text(f"{good}\n{line}\n")
        with pytest.raises(InputError, match=message) as caught:
            SMALL.read(str(path))
        assert f"{path}: line 2: " in str(caught.value)


def test_a_path_of_blocksworld_may_be_too_long():
    longest = BLOCKS.answer_length - 2
    walk = [node % 2 for node in range(longest + 2)]

    def line(edges):
        return " ".join(map(str, [0, walk[edges], *walk[: edges + 1]]))

    longest -= longest % 2 == 0  # an odd number of edges, to the other node
    assert BLOCKS.parse(line(longest))[1] == [*walk[: longest + 1], BLOCKS.end]
    with pytest.raises(InputError, match=f"a path of {longest + 2} edges; expected at most"):
        BLOCKS.parse(line(longest + 2))
    with pytest.raises(InputError, match="not a path from 0 to 0"):
        BLOCKS.parse("0 0 0 1 0")


def test_blocksworld_takes_a_number_of_states():
    with pytest.raises(
        Impossible, match=r"task.graph=blocksworld, task.num_nodes=100: .* use .*13, 73 or 501"
    ):
        TransitivePath(graph="blocksworld")


@pytest.mark.parametrize(
    "options",
    [{"num_nodes": 3}, {"edge_probability": 1.0}, {"edge_probability": 1e-6}, {"train_share": 0.9999}],
)
def test_a_graph_without_pairs_to_hold_out(options):
    with pytest.raises(Impossible, match=r"task.num_nodes=.*task.graph_seed=0: .* no pair to hold out"):
        TransitivePath(**{"num_nodes": 30, **options})
