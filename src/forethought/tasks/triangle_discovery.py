"""Triangles of a hidden graph: name one that training did not show."""

from functools import lru_cache
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from pydantic import Field
from torch import Tensor

from forethought.tasks.base import Batch
from forethought.tasks.draw import Draws
from forethought.tasks.graph import first_outcome, hash_edges, to_device
from forethought.tasks.open_ended import OpenEnded
from forethought.validation import validated_dataclass


@validated_dataclass
class TriangleDiscovery(OpenEnded):
    """The three edges of any triangle of an undirected graph that only training rows show.

    The graph is the union of `planted` random triangles on N = `num_nodes` nodes. So each edge lies on a
    triangle, and edges of different planted ones make further triangles: by default about 5,000 in all. With
    N = 5 and the planted triangles 0 1 2 and 2 3 4:

        0 — 1               text     qxbau=3,2|2,4|4,3
         ╲ ╱                prompt   q x b a u =
          2                 answer   3 2 2 4 4 3          loss on all six
         ╱ ╲                               ^
        3 — 4               the decision: a neighbour of 2 and of 3?

    All other tokens are local: any node, one of its neighbours, copies. A policy that goes on from an edge
    of a random triangle to a random neighbour of its head finds a triangle with the probability `chance`.
    Training rows begin at a random node and walk in a random direction. Any three edges of a triangle are
    right, in any order and direction, and the same object.

    What differs from the source: its size is not known.

    Source: Nagarajan et al., "Roll the dice & look before you leap" (2504.15266), §2.

    Args:
        num_nodes: number of nodes N.
        planted: number of random triangles that the graph is made of.
        graph_seed: seed of the graph, for all seeds of a run.
    """

    num_nodes: int = Field(default=100, ge=4, le=500)
    planted: int = Field(default=600, ge=1, le=10_000)
    graph_seed: int = Field(default=0, ge=0)

    outcomes: ClassVar = ("right", "missing_edge", "open", "other")

    @property
    def _nodes(self) -> int:
        return self.num_nodes

    @property
    def _groups(self) -> tuple[int, int]:
        return 3, 2

    def _world(self, device: torch.device | str = "cpu") -> "_World":
        return _world(self.num_nodes, self.planted, len(self.vocabulary), self.graph_seed, str(device))

    @property
    def chance(self) -> float:
        return self._world().chance

    def sample_answers(self, count: int, draws: Draws) -> Int[Tensor, "B A"]:
        triangles = self._world(draws.device).triangles
        nodes = triangles[draws.integers(len(triangles), count)].gather(1, draws.permutation(count, 3))
        return torch.stack([nodes, nodes.roll(-1, 1)], 2).flatten(1)

    def canonical(self, prompt: Int[Tensor, "B P"], answer: Int[Tensor, "B A"]) -> Int[Tensor, " B"]:
        """Return a key of the set of undirected edges."""
        ends = answer.view(-1, *self._groups).sort(2)[0]
        return hash_edges(ends[..., 0], ends[..., 1], len(self.vocabulary))

    def check(self, prompt: Int[Tensor, "B P"], answer: Int[Tensor, "B A"]) -> Int[Tensor, " B"]:
        """Return the outcome of each answer.

        * `missing_edge`: a triangle of nodes; the graph lacks an edge of it.
        * `open`: three edges of the graph that are no triangle.
        * `other`: the answer has another form.
        """
        tails, heads = answer[:, 0::2], answer[:, 1::2]
        is_edge = self._world(prompt.device).adjacent[tails, heads].all(1)
        # Three edges, none of a node to itself, in which each node occurs twice.
        twice = ((answer[:, :, None] == answer[:, None]).sum(2) == 2).all(1)
        closes = twice & (tails != heads).all(1)
        drawn = closes & (answer < self.num_nodes).all(1)
        return first_outcome([drawn & is_edge, drawn, is_edge], self.outcomes.index("other"))

    def accepted(self, batch: Batch) -> Bool[Tensor, "B A V"]:
        """Return any node, its neighbours, then the common neighbours; elsewhere, the answer's token."""
        adjacent = self._world(batch.prompt.device).adjacent
        accepted = F.one_hot(batch.answer, len(self.vocabulary)).bool()
        first, second = adjacent[batch.answer[:, 0]], adjacent[batch.answer[:, 1]]
        accepted[:, 0] = adjacent.any(1)
        accepted[:, 1] = first
        accepted[:, 3] = first & second
        return accepted

    def decision_mask(self, batch: Batch) -> Bool[Tensor, "B A"]:
        """Mark the third node, where it occurs first."""
        mask = torch.zeros_like(batch.answer, dtype=torch.bool)
        mask[:, 3] = True
        return mask


class _World(NamedTuple):
    """The graph with V tokens, of which N are nodes, and its K triangles."""

    adjacent: Bool[Tensor, "V V"]
    triangles: Int[Tensor, "K 3"]
    chance: float


@lru_cache(maxsize=16)
def _world(nodes: int, planted: int, tokens: int, seed: int, device: str) -> _World:
    """Build the graph on the CPU, so that it is the same on every device."""
    if device != "cpu":
        return to_device(_world(nodes, planted, tokens, seed, "cpu"), device)
    corners = Draws(seed, "triangle_discovery", "graph").permutation(planted, nodes, 3)
    # The device is named, as models that are checked without memory are built under `torch.device("meta")`.
    adjacent = torch.zeros(tokens, tokens, dtype=torch.bool, device=device)
    adjacent[corners, corners.roll(1, 1)] = True
    adjacent |= adjacent.T.clone()
    edges = adjacent.triu().nonzero()
    common = adjacent[edges].all(1)
    later = torch.arange(tokens, device=device) > edges[:, 1:]
    edge, third = (common & later).nonzero().unbind(1)
    # A row begins with an edge in proportion to its triangles, in either direction.
    weights = common.sum(1).double()[:, None]
    others = adjacent.sum(1)[edges] - 1
    return _World(
        adjacent=adjacent,
        triangles=torch.cat([edges[edge], third[:, None]], 1),
        chance=((weights**2 / others).sum() / (2 * weights.sum())).item(),
    )
