"""Paths in one fixed graph that training shows in pieces: can the pieces be joined?"""

import re
from functools import lru_cache
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from pydantic import Field
from torch import Tensor

from forethought.errors import Impossible, InputError
from forethought.tasks.base import TEST, TRAIN, VALIDATION, Batch, Task
from forethought.tasks.draw import Draws
from forethought.tasks.graph import drawing_of, first_outcome, refuse_outside
from forethought.validation import validated_dataclass

_PATHS = 20
"""Random paths of a pair for each single-edge path of an edge (the source's m)."""

_DEGREES = 4

_UNIT = 1 << 24
"""Random choices are multiples of 1 / _UNIT: their bias is below 2^-14."""


@validated_dataclass
class TransitivePath(Task):
    """Path from a source to a target in a fixed random graph, whose edges are learned, not listed.

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

    What differs from the source: fresh paths at every step (unless `train_samples` is set), where the source
    has 20 a pair; so "observed" counts every path of a training pair. At N = 100, 97 % of the degrees agree.
    The source has no validation pairs.

    Source: Wang et al., "ALPINE" (2405.09220), §4; Zhong et al. (2509.23186), §2 and §5.

    Args:
        num_nodes: number of nodes N.
        edge_probability: probability of each edge.
        train_share: share of the pairs that are no edges on which is trained.
        graph_seed: seed of the graph and of the division of its pairs, for all seeds of a run.

    Raises:
        Impossible: the graph has no pair to train on, or none to test.
    """

    num_nodes: int = Field(default=100, ge=3, le=1000)
    edge_probability: float = Field(default=0.1, gt=0, le=1)
    train_share: float = Field(default=0.5, ge=0, lt=1)
    graph_seed: int = Field(default=0, ge=0)

    outcomes: ClassVar = ("right", "missing_edge", "wrong_end", "other")

    def __post_init__(self) -> None:
        if not self._world().has_tests:
            raise Impossible(
                f"task.num_nodes={self.num_nodes}, task.edge_probability={self.edge_probability}, "
                f"task.train_share={self.train_share}, task.graph_seed={self.graph_seed}: the graph has no "
                "pair to hold out for validation or test; use another graph_seed or more nodes"
            )

    def _world(self, device: torch.device | str = "cpu") -> "_World":
        return _world(
            self.num_nodes, self.edge_probability, self.train_share, self.graph_seed, device=str(device)
        )

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

        It takes an edge to the target wherever there is one, and no edge to a greater number than the target.
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
            after = world.successors[node.clamp(max=self.num_nodes)]
            useful = world.reaches[after, target[:, None]]
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
        """Return all successors that reach the target; elsewhere, the answer's token."""
        world = self._world(batch.prompt.device)
        nodes, targets = batch.answer[:, :-1], batch.prompt[:, 1]
        edges = world.is_edge[nodes.clamp(max=self.num_nodes - 1)] & (nodes < self.num_nodes)[..., None]
        useful = F.pad(edges & world.reaches[: self.num_nodes].T[targets][:, None], (0, 2, 1, 0))
        answer = F.one_hot(batch.answer, len(self.vocabulary)).bool()
        return torch.where(useful.any(2, keepdim=True), useful, answer)

    def decision_mask(self, batch: Batch) -> Bool[Tensor, "B A"]:
        """Mark the nodes before which no edge leads to the target, and some edge misses it.

        Edges beyond the target do not count: a greater number is never right.
        """
        world = self._world(batch.prompt.device)
        nodes, targets = batch.answer[:, :-1], batch.prompt[:, 1:]
        decides = world.decides[nodes.clamp(max=self.num_nodes - 1), targets] & (nodes < self.num_nodes)
        return F.pad(decides, (1, 0))

    def strata(self, batch: Batch) -> dict[str, Int[Tensor, " B"]]:
        return {"degree": self._world(batch.prompt.device).degree[*batch.prompt.unbind(1)]}

    @property
    def strata_sizes(self) -> dict[str, int]:
        return {"degree": _DEGREES}

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
        along = all(is_edge[tail, head] for tail, head in pairwise(path))
        if not along or (path[0], path[-1]) != (source, target):
            raise InputError(
                f"{' '.join(map(str, path))} is not a path from {source} to {target} in the graph of "
                f"task.graph_seed={self.graph_seed}; correct the answer"
            )
        return [source, target], [*path, self.end]

    def drawing(self, prompt: Int[Tensor, " P"]) -> dict[str, Any]:
        """Return the edges on all paths from the source to the target."""
        world = self._world()
        source, target = prompt.tolist()
        between = world.reaches[source] & world.reaches[: self.num_nodes, target]
        edges = (world.is_edge & between[:, None] & between).nonzero().tolist()
        return drawing_of(edges, source, target)


class _World(NamedTuple):
    """The graph, its pairs and what follows from them. Node N has no edges: it pads lists of successors."""

    is_edge: Bool[Tensor, "N N"]
    reaches: Bool[Tensor, "M N"]  # M = N + 1; every node but the padding reaches itself
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
def _world(nodes: int, edge_probability: float, train_share: float, seed: int, device: str) -> _World:
    """Draw the graph on the CPU, so that it is the same on every device."""
    if device != "cpu":
        world = _world(nodes, edge_probability, train_share, seed, "cpu")
        tables: dict[str, Any] = {
            name: x.to(device) for name, x in world._asdict().items() if isinstance(x, Tensor)
        }
        return world._replace(**tables)
    upwards = torch.ones(nodes, nodes, dtype=torch.bool).triu(1)
    is_edge = (Draws(seed, "transitive_path", "edges").uniform(nodes, nodes) < edge_probability) & upwards
    reaches = torch.eye(nodes, dtype=torch.bool)
    length = torch.zeros(nodes, dtype=torch.long)  # of the longest path from each node, in edges
    for node in reversed(range(nodes)):
        after = is_edge[node]
        reaches[node] |= reaches[after].any(0)
        length[node] = (length[after] + 1).max() if after.any() else 0
    is_pair = reaches & upwards
    number = Draws(seed, "transitive_path", "parts").uniform(nodes, nodes)
    part = torch.where(number < train_share + (1 - train_share) / 8, VALIDATION, TEST)
    part = part.masked_fill((number < train_share) | is_edge, TRAIN)
    observed = _product(is_pair.T, is_pair & (part == TRAIN)) & reaches
    tested = is_pair & (part == TEST)
    chance, decides, decision_chance = _chances(is_edge, reaches, tested)
    most = int(is_edge.sum(1).max())
    successors = torch.full((nodes + 1, most), nodes)
    for node in range(nodes):
        after = is_edge[node].nonzero()[:, 0]
        successors[node, : len(after)] = after
    return _World(
        is_edge=is_edge,
        reaches=F.pad(reaches, (0, 0, 0, 1)),
        successors=successors,
        pairs=is_pair.nonzero(),
        edges=is_edge.nonzero(),
        part=part,
        degree=_degrees(is_edge, observed),
        decides=decides,
        longest_path=int(length.max()) + 1,
        has_tests=bool(tested.any() and (is_pair & (part == VALIDATION)).any()),
        chance=chance,
        decision_chance=decision_chance,
    )


def _product(a: Bool[Tensor, "N N"], b: Bool[Tensor, "N N"]) -> Bool[Tensor, "N N"]:
    """Return the product of two relations. Sums of up to 1000 ones are exact in fp32."""
    return a.float() @ b.float() > 0


def _degrees(is_edge: Bool[Tensor, "N N"], observed: Bool[Tensor, "N N"]) -> Int[Tensor, "N N"]:
    degree = torch.full(observed.shape, _DEGREES - 1)
    within = [observed]
    for _ in range(_DEGREES - 2):
        within.append(_product(is_edge, within[-1]))
    for number, pairs in reversed(list(enumerate(within))):
        degree[pairs] = number
    return degree


def _chances(
    is_edge: Bool[Tensor, "N N"], reaches: Bool[Tensor, "N N"], tested: Bool[Tensor, "N N"]
) -> tuple[float, Bool[Tensor, "N N"], float]:
    """Return `chance`, from which node a step to which target is a decision, and `decision_chance`."""
    nodes = len(is_edge)
    candidates = is_edge.cumsum(1)  # [u, t]: the edges from u to at most t
    useful = (is_edge.float() @ reaches.float()).long()  # [u, t]: those of them that reach t
    decides = (useful > 0) & (useful < candidates) & ~is_edge
    arrives = torch.eye(nodes, dtype=torch.float64)  # probability that the walk from u arrives at t
    for node in reversed(range(nodes)):
        average = arrives[is_edge[node]].sum(0) / candidates[node].clamp(min=1)
        arrives[node] = torch.where(is_edge[node], 1.0, average).masked_fill(arrives[node] == 1, 1.0)
    visits = tested.double()  # expected number of visits of u on the true paths to t, of one path a pair
    for node in range(nodes):
        after = is_edge[node]
        visits[after] += reaches[after] * visits[node] / useful[node].clamp(min=1)
    weights = visits * decides
    hits = (weights * useful / candidates.clamp(min=1)).sum() / weights.sum()
    return arrives[tested].mean().item(), decides, hits.item() if weights.any() else 1.0
