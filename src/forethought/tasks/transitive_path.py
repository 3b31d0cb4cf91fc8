"""Paths in one fixed graph that training shows in pieces: can the pieces be joined?"""

import re
from functools import lru_cache
from itertools import pairwise
from typing import Any, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from forethought.errors import Impossible, InputError
from forethought.tasks.base import TEST, TRAIN, VALIDATION, Batch, Task
from forethought.tasks.blocksworld import blocksworld_moves
from forethought.tasks.draw import Draws
from forethought.tasks.graph import drawing_of, first_outcome, refuse_outside, to_device
from forethought.validation import validated_dataclass

_PATHS = 20
"""Random paths of a pair for each single-edge path of an edge (the source's m)."""

_DEGREES = 4

_UNIT = 1 << 24
"""Random choices are multiples of 1 / _UNIT: their bias is below 2^-14."""

_BLOCKS = {13: 3, 73: 4, 501: 5}
"""Blocks of Blocksworld by its number of states."""

_NEVER = 10_000
"""Steps to a node that cannot be reached: above those of any path; twice as many fit into int16."""


@validated_dataclass
class TransitivePath(Task):
    """Path from a source to a target in a fixed graph, whose edges are learned, not listed.

    The graph has N = `num_nodes` nodes. Each pair i < j is an edge i → j with probability
    `edge_probability`. A row asks for a path between a pair of nodes that has one. In this graph with N = 6:

        0 → 1 → 3 → 5        text     0 5 0 1 3 5
        ↓                    prompt   0 5
        2 → 4                answer       0 1 3 5 end      loss on all of these
                                            ^              the decision: 1 or 2?

    Any path to the target is right. The model is trained on all pairs that are edges, and on a share of
    `train_share` of the others. An eighth of the remaining pairs is for validation, the rest for the test.
    Each step of a path is uniform over the successors that reach the target. As in the source, there are 20
    of these paths of each pair for one single-edge path of each edge.

    A node u is *observed* to reach t if it lies, other than as the source, on a path to t of a training
    pair. The degree of a pair (s, t) divides the rows:

        0    s is observed to reach t
        1    otherwise, s → u for a u that is observed to reach t
        2    otherwise, s → u for a u of degree 1
        3    the others

    Up to degree 1, edges and observed reachability tell the first step. Beyond, pieces of training paths
    must be joined.

    With `graph=blocksworld`, the N = 73 nodes are the arrangements of 4 labelled blocks into stacks on a
    table. Each move of a block from the top of a stack onto another stack, or onto the table, is an edge.
    Every move can be undone, so that the graph has cycles. The paths are therefore shortest ones, of 1 to 6
    edges: each step is uniform over the successors that are one step nearer to the target. A path with
    detours is right as well, up to 6 edges. But only nearer successors count as right decisions. Further
    strata divide the rows by the length of the shortest path.

    What differs from the source: fresh paths at every step (unless `train_samples` is set), where the source
    has 20 a pair; so "observed" counts every path of a training pair. At N = 100, 97 % of the degrees agree.
    The source has no validation pairs. In Blocksworld, all pairs are equally frequent, where Zhong et al.
    train on 100 to 500 paths of each length.

    Source: Wang et al., "ALPINE" (2405.09220), §4; Zhong et al. (2509.23186), §2 and §5.

    Args:
        graph: `random`, or `blocksworld`, the states of 4 blocks (3 and 5 with 13 and 501 nodes).
        num_nodes: number of nodes N; for Blocksworld 13, 73 or 501.
        edge_probability: probability of each edge of the random graph.
        train_share: share of the pairs that are no edges on which is trained.
        graph_seed: seed of the graph and of the division of its pairs, for all seeds of a run.

    Raises:
        Impossible: no number of blocks has N states, or the graph has no pair to train on, or none to test.
    """

    graph: Literal["random", "blocksworld"] = "random"
    num_nodes: int = Field(default=100, ge=3, le=1000)
    edge_probability: float = Field(default=0.1, gt=0, le=1)
    train_share: float = Field(default=0.5, ge=0, lt=1)
    graph_seed: int = Field(default=0, ge=0)

    outcomes: ClassVar = ("right", "missing_edge", "wrong_end", "other")

    def __post_init__(self) -> None:
        if self.graph == "blocksworld" and self.num_nodes not in _BLOCKS:
            raise Impossible(
                f"task.graph=blocksworld, task.num_nodes={self.num_nodes}: no number of blocks has so many "
                "states; use task.num_nodes=13, 73 or 501 (3, 4 or 5 blocks)"
            )
        if not self._world().has_tests:
            raise Impossible(
                f"task.num_nodes={self.num_nodes}, task.edge_probability={self.edge_probability}, "
                f"task.train_share={self.train_share}, task.graph_seed={self.graph_seed}: the graph has no "
                "pair to hold out for validation or test; use another graph_seed or more nodes"
            )

    def _world(self, device: torch.device | str = "cpu") -> "_World":
        probability = None if self.graph == "blocksworld" else self.edge_probability
        return _world(self.num_nodes, probability, self.train_share, self.graph_seed, device=str(device))

    @property
    def vocabulary(self) -> tuple[str, ...]:
        return (*map(str, range(self.num_nodes)), "end", "$")

    @property
    def end(self) -> int:
        return self.num_nodes

    @property
    def prompt_length(self) -> int:
        return 2

    @property
    def answer_length(self) -> int:
        return self._world().longest_path + 1

    @property
    def chance(self) -> float:
        """Accuracy on the test pairs of a random walk that knows the edges.

        It takes an edge to the target wherever there is one. In the random graph, it takes no edge to a
        greater number than the target. In Blocksworld, it may return to a node, and takes as many steps as
        fit into an answer.
        """
        return self._world().chance

    @property
    def decision_chance(self) -> float:
        """Accuracy of a step of this walk at the decision tokens of the test pairs."""
        return self._world().decision_chance

    def sample(self, count: int, draws: Draws) -> Batch:
        world = self._world(draws.device)
        walks = _PATHS * len(world.pairs)
        line = draws.integers(walks + len(world.edges), count)
        is_walk = line < walks
        pair, edge = world.pairs[line.where(is_walk, 0) // _PATHS], world.edges[(line - walks).clamp(min=0)]
        prompt = pair.where(is_walk[:, None], edge)
        node, target = prompt.unbind(1)
        padding, path = torch.full_like(node, self.dummy), [node]
        for choice in draws.integers(_UNIT, count, self.answer_length - 1).unbind(1):
            node = node.clamp(max=self.num_nodes)
            after = world.successors[node]
            useful = world.steps[after, target[:, None]] < world.steps[node, target][:, None]
            rank = choice * useful.sum(1) // _UNIT
            place = (useful.cumsum(1) > rank[:, None]).int().argmax(1)
            step = after.gather(1, place[:, None])[:, 0].where(is_walk, target)
            step = step.where(node < self.num_nodes, padding)
            node = step.where(node != target, self.end)
            path.append(node)
        return Batch(prompt, torch.stack(path, 1))

    def check(self, prompt: Int[Tensor, "B P"], answer: Int[Tensor, "B A"]) -> Int[Tensor, " B"]:
        """Return the outcome of each path.

        * `missing_edge`: nodes from the source up to an end token; a step is not an edge of the graph.
        * `wrong_end`: a path along edges from the source, to another node than the target.
        * `other`: the answer does not begin at the source, or contains no end token, or a token before it
          that is not a node.
        """
        world = self._world(prompt.device)
        ends = answer == self.end
        length = ends.int().argmax(1)
        inside = torch.arange(answer.shape[1], device=answer.device) < length[:, None]
        nodes = answer.where(inside & (answer < self.num_nodes), 0)
        begins = (answer[:, 0] == prompt[:, 0]) & ends.any(1) & ((answer < self.num_nodes) | ~inside).all(1)
        along = (world.is_edge[nodes[:, :-1], nodes[:, 1:]] | ~inside[:, 1:]).all(1)
        arrives = nodes.gather(1, (length - 1).clamp(min=0)[:, None])[:, 0] == prompt[:, 1]
        kinds = [begins & along & arrives, begins & ~along, begins]
        return first_outcome(kinds, self.outcomes.index("other"))

    def accepted(self, batch: Batch) -> Bool[Tensor, "B A V"]:
        """Return all successors from which fewer steps lead to the target; elsewhere, the answer's token."""
        world = self._world(batch.prompt.device)
        nodes, targets = batch.answer[:, :-1].clamp(max=self.num_nodes), batch.prompt[:, 1:]
        nearer = world.steps.T[targets] < world.steps[nodes, targets][..., None]
        edges = F.pad(world.is_edge, (0, 1, 0, 1))[nodes]
        useful = F.pad(edges & nearer, (0, 1, 1, 0))
        answer = F.one_hot(batch.answer, len(self.vocabulary)).bool()
        return torch.where(useful.any(2, keepdim=True), useful, answer)

    def decision_mask(self, batch: Batch) -> Bool[Tensor, "B A"]:
        """Mark the nodes before which no edge leads to the target, and some edge leads no nearer to it.

        In the random graph, an edge leads nearer if it leads to a node that reaches the target. Edges beyond
        the target do not count: a greater number is never right.
        """
        world = self._world(batch.prompt.device)
        nodes, targets = batch.answer[:, :-1], batch.prompt[:, 1:]
        decides = world.decides[nodes.clamp(max=self.num_nodes - 1), targets] & (nodes < self.num_nodes)
        return F.pad(decides, (1, 0))

    def strata(self, batch: Batch) -> dict[str, Int[Tensor, " B"]]:
        world, pair = self._world(batch.prompt.device), batch.prompt.unbind(1)
        strata = {"degree": world.degree[*pair]}
        return strata if self.graph == "random" else strata | {"length": world.steps[*pair].long()}

    def path_edges(self, prompt: Int[Tensor, "B P"]) -> tuple[Int[Tensor, "B E"], Int[Tensor, "B E"]]:
        tails, heads = self._world(prompt.device).edges.T[:, None].expand(-1, len(prompt), -1)
        return tails, heads

    @property
    def strata_sizes(self) -> dict[str, int]:
        sizes = {"degree": _DEGREES}
        return sizes if self.graph == "random" else sizes | {"length": self._world().longest_path}

    def part(self, batch: Batch) -> Int[Tensor, " B"]:
        """Return the part of each pair. Pairs that are edges are for training."""
        return self._world(batch.prompt.device).part[*batch.prompt.unbind(1)]

    def text(self, prompt: Int[Tensor, " P"], answer: Int[Tensor, " A"]) -> str:
        path = answer[answer < self.num_nodes]
        return " ".join(map(str, [*prompt.tolist(), *path.tolist()]))

    def parse(self, line: str) -> tuple[list[int], list[int]]:
        if not re.fullmatch("[0-9]{1,9}(?: [0-9]{1,9}){3,}", line):
            raise InputError(f"{line[:40]!r} is malformed; expected source target source v1 … target")
        source, target, *path = map(int, line.split(" "))
        refuse_outside([source, target, *path], self.num_nodes)
        is_edge = self._world().is_edge
        along = source != target and all(is_edge[tail, head] for tail, head in pairwise(path))
        if not along or (path[0], path[-1]) != (source, target):
            raise InputError(
                f"{' '.join(map(str, path))} is not a path from {source} to {target} in the graph of "
                f"task.graph_seed={self.graph_seed}; correct the answer"
            )
        if len(path) >= self.answer_length:
            raise InputError(
                f"a path of {len(path) - 1} edges; expected at most {self.answer_length - 2}, those of the "
                "longest shortest path"
            )
        return [source, target], [*path, self.end]

    def drawing(self, prompt: Int[Tensor, " P"]) -> dict[str, Any]:
        """Return the edges on all paths from the source to the target, of Blocksworld on the shortest."""
        world = self._world()
        source, target = prompt.tolist()
        left = world.steps[: self.num_nodes, target]
        between = world.steps[source] + left <= world.steps[source, target]
        nearer = between[:, None] & between & (left < left[:, None])
        edges = (world.is_edge & nearer).nonzero().tolist()
        return drawing_of(edges, source, target)


class _World(NamedTuple):
    """The graph, its pairs and what follows from them. Node N has no edges: it pads lists of successors.

    `steps[u, t]` are the edges of the longest path from u to t in the random graph, and of the shortest in
    Blocksworld. So a successor from which fewer steps lead to t is the next node of a path to t.
    """

    is_edge: Bool[Tensor, "N N"]
    steps: Int[Tensor, "M N"]  # M = N + 1; _NEVER where there is no path
    successors: Int[Tensor, "M D"]
    pairs: Int[Tensor, "R 2"]
    edges: Int[Tensor, "E 2"]
    part: Int[Tensor, "N N"]
    degree: Int[Tensor, "N N"]
    decides: Bool[Tensor, "N N"]
    longest_path: int
    has_tests: bool
    chance: float
    decision_chance: float


@lru_cache(maxsize=16)
def _world(nodes: int, edge_probability: float | None, train_share: float, seed: int, device: str) -> _World:
    """Build the graph on the CPU, so that it is the same on every device. No probability: Blocksworld."""
    if device != "cpu":
        return to_device(_world(nodes, edge_probability, train_share, seed, "cpu"), device)
    upwards = torch.ones(nodes, nodes, dtype=torch.bool).triu(1)
    if edge_probability is None:
        is_edge = torch.zeros(nodes, nodes, dtype=torch.bool)
        is_edge[*torch.tensor(blocksworld_moves(_BLOCKS[nodes])).T] = True
        steps = _shortest(is_edge)
    else:
        is_edge = (Draws(seed, "transitive_path", "edges").uniform(nodes, nodes) < edge_probability) & upwards
        steps = _longest(is_edge)
    is_pair = (steps > 0) & (steps < _NEVER)
    number = Draws(seed, "transitive_path", "parts").uniform(nodes, nodes)
    part = torch.where(number < train_share + (1 - train_share) / 8, VALIDATION, TEST)
    part = part.masked_fill((number < train_share) | is_edge, TRAIN)
    tested = is_pair & (part == TEST)
    # Candidates [u, t]: the edges from u to at most t; in Blocksworld, all edges from u.
    is_ordered = edge_probability is not None
    candidates = is_edge.cumsum(1) if is_ordered else is_edge.sum(1, keepdim=True).expand(nodes, nodes)
    useful = _useful(is_edge, steps)
    decides = (useful > 0) & (useful < candidates) & ~is_edge
    walk = _walk_upwards if is_ordered else _walk_by_moves
    arrives, visits = walk(is_edge, steps, tested, candidates, useful)
    weights = visits * decides
    hits = (weights * useful / candidates.clamp(min=1)).sum() / weights.sum()
    most = int(is_edge.sum(1).max())
    successors = torch.full((nodes + 1, most), nodes)
    for node in range(nodes):
        after = is_edge[node].nonzero()[:, 0]
        successors[node, : len(after)] = after
    return _World(
        is_edge=is_edge,
        steps=F.pad(steps, (0, 0, 0, 1), value=_NEVER),
        successors=successors,
        pairs=is_pair.nonzero(),
        edges=is_edge.nonzero(),
        part=part,
        degree=_degrees(is_edge, _observed(steps, is_pair & (part == TRAIN))),
        decides=decides,
        longest_path=int(steps[is_pair].max()) + 1 if is_pair.any() else 1,
        has_tests=bool(tested.any() and (is_pair & (part == VALIDATION)).any()),
        chance=arrives[tested].mean().item(),
        decision_chance=hits.item() if weights.any() else 1.0,
    )


def _longest(is_edge: Bool[Tensor, "N N"]) -> Int[Tensor, "N N"]:
    """Return the edges of the longest path between two nodes of a graph whose edges lead upwards."""
    steps = torch.eye(len(is_edge), dtype=torch.int16) - 1
    for node in reversed(range(len(is_edge))):
        if is_edge[node].any():
            best = steps[is_edge[node]].amax(0)
            steps[node] = steps[node].where(best < 0, best + 1)
    return steps.masked_fill(steps < 0, _NEVER)


def _shortest(is_edge: Bool[Tensor, "N N"]) -> Int[Tensor, "N N"]:
    """Return the edges of the shortest path between two nodes of a connected graph."""
    reached = torch.eye(len(is_edge), dtype=torch.bool)
    steps = torch.zeros(reached.shape, dtype=torch.int16)
    while not reached.all():
        steps += ~reached
        reached |= _product(reached, is_edge)
    return steps


def _product(a: Bool[Tensor, "N N"], b: Bool[Tensor, "N N"]) -> Bool[Tensor, "N N"]:
    """Return the product of two relations. Sums of up to 1000 ones are exact in fp32."""
    return a.float() @ b.float() > 0


def _observed(steps: Int[Tensor, "N N"], trained: Bool[Tensor, "N N"]) -> Bool[Tensor, "N N"]:
    """Return which u lies, other than as the source, on a path to which t of a training pair."""
    observed = torch.empty_like(trained)
    for node in range(len(steps)):
        # A path through the node is at most as long as the longest; a detour is longer than the shortest.
        passes = trained & (steps[:, node, None] + steps[node] <= steps)
        passes[node] = False
        observed[node] = passes.any(0)
    return observed


def _degrees(is_edge: Bool[Tensor, "N N"], observed: Bool[Tensor, "N N"]) -> Int[Tensor, "N N"]:
    degree = torch.full(observed.shape, _DEGREES - 1)
    within = [observed]
    for _ in range(_DEGREES - 2):
        within.append(_product(is_edge, within[-1]))
    for number, pairs in reversed(list(enumerate(within))):
        degree[pairs] = number
    return degree


def _useful(is_edge: Bool[Tensor, "N N"], steps: Int[Tensor, "N N"]) -> Int[Tensor, "N N"]:
    """Return how many edges from u lead nearer to t [u, t]."""
    nearer = [(steps[after] < row).sum(0) for after, row in zip(is_edge, steps, strict=True)]
    return torch.stack(nearer)


def _walk_upwards(
    is_edge: Bool[Tensor, "N N"],
    steps: Int[Tensor, "N N"],
    tested: Bool[Tensor, "N N"],
    candidates: Int[Tensor, "N N"],
    useful: Int[Tensor, "N N"],
) -> tuple[Float[Tensor, "N N"], Float[Tensor, "N N"]]:
    """Return the probability that the walk of `chance` from u arrives at t, and the visits of u.

    The visits are the expected number on the true paths to t, of one path for each tested pair.
    """
    nodes = len(is_edge)
    arrives = torch.eye(nodes, dtype=torch.float64)
    for node in reversed(range(nodes)):
        average = arrives[is_edge[node]].sum(0) / candidates[node].clamp(min=1)
        arrives[node] = torch.where(is_edge[node], 1.0, average).masked_fill(arrives[node] == 1, 1.0)
    visits = tested.double()
    for node in range(nodes):
        after = is_edge[node]
        visits[after] += (steps[after] < steps[node]) * visits[node] / useful[node].clamp(min=1)
    return arrives, visits


def _walk_by_moves(
    is_edge: Bool[Tensor, "N N"],
    steps: Int[Tensor, "N N"],
    tested: Bool[Tensor, "N N"],
    candidates: Int[Tensor, "N N"],
    useful: Int[Tensor, "N N"],
) -> tuple[Float[Tensor, "N N"], Float[Tensor, "N N"]]:
    """Return the same for Blocksworld, where a walk has as many steps as the longest true path."""
    moves, longest = is_edge.double(), int(steps.max())
    arrives = (steps <= 1).double()
    for _ in range(longest - 1):
        arrives = torch.where(steps <= 1, 1.0, moves @ arrives / candidates)
    visits = tested.double()
    for distance in range(longest, 0, -1):
        share = torch.where(steps == distance, visits / useful, 0.0)
        visits += (steps == distance - 1) * (moves.T @ share)
    return arrives, visits
