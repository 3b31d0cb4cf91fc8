"""Stars whose arms branch in training: trained on trees, tested on path-stars."""

from typing import Annotated

import torch
from pydantic import Field

from forethought.errors import Impossible, InputError
from forethought.tasks.base import Batch
from forethought.tasks.draw import Draws
from forethought.tasks.tree import TreePath
from forethought.validation import validated_dataclass


@validated_dataclass
class TreeStar(TreePath):
    """Path from the centre of a star to a leaf. In training, arms may branch; in the test, none does.

    A star has `degree` arms of `path_length` nodes each (the start counted). To split an arm, cut it after
    a random node, and hang the rest on a random earlier node. An arm keeps its number of nodes, so that
    all prompts are equally long. Paths in split arms are shorter. A star G(2, 5), with one arm split:

        graph    6 → 1 → 8 → 0 → 2                  a test graph has two arms like the first
                 6 → 4 → 7                          the second is cut after 7,
                     4 → 3 → 5                      and its rest hangs on 4
        text     4,3|8,0|6,1|3,5|6,4|0,2|4,7|1,8/6,5=6,4,3,5
        prompt   4 3 | 8 0 | … | 1 8 / 6 5 =
        answer   6 4 3 5 end
                   ^ ^                              the decisions: 1 or 4? (chance 1/d), 7 or 3? (1/2)

    The other tokens follow by looking up an edge. The gold arm is a random one, and the goal a random one
    of its leaves: no rule that does not read the goal finds the path. With more nodes on split arms, paths
    could keep their length, but then the names would not suffice: the source has as many names as a star
    has nodes. Were only wrong branches shorter, their length would tell them from the goal's.

    Source: Frydenlund, "Language Models, Graph Searching, and Supervision Adulteration" (2503.10542), ACL
    2025: "split-tree" training graphs, evaluated on paths. Read from digests, where each arm is a binary
    tree; the law of its splits is not given. At most one split an arm is the simplest law.

    Args:
        degree: number of arms d.
        path_length: nodes on an arm that is not split, start included (l). Shorter arms cannot split.
        split_share: probability that an arm of a training graph is split. At 1, no training path is as long
            as those of the test.
        num_nodes: number N of node names to draw from, at least d (l - 1) + 1; None: exactly that many.

    Raises:
        Impossible: `num_nodes` is too small for the graph, or the graph has more than 10,000 nodes.
    """

    degree: int = Field(default=2, ge=2, le=1000)
    path_length: int = Field(default=5, ge=4, le=1000)
    split_share: Annotated[float, Field(ge=0, le=1)] = 0.5

    def __post_init__(self) -> None:
        if self.num_edges >= 10_000:
            raise Impossible(
                f"task.degree={self.degree}, task.path_length={self.path_length}: the graph has "
                f"{self.num_edges + 1} nodes; expected at most 10000"
            )
        super().__post_init__()

    @property
    def num_edges(self) -> int:
        return self.degree * (self.path_length - 1)

    @property
    def longest_path(self) -> int:
        return self.path_length

    @property
    def chance(self) -> float:
        return 1 / self.degree

    def sample(self, count: int, draws: Draws) -> Batch:
        return self._draw(count, draws, 0.0)

    def sample_training(self, count: int, draws: Draws) -> Batch:
        return self._draw(count, draws, self.split_share)

    def _draw(self, count: int, draws: Draws, split_share: float) -> Batch:
        d, steps, edges = self.degree, self.path_length - 1, self.num_edges
        nodes = draws.permutation(count, self.num_nodes, edges + 1)
        start, arms = nodes[:, :1], nodes[:, 1:].view(count, d, steps)
        stems = torch.cat([start[:, None].expand(count, d, 1), arms], 2)
        # Node k of an arm, of 1 … l - 1, hangs on node k - 1, and the first node after the cut on `hold`.
        parent = torch.arange(steps, device=arms.device).expand(count, d, steps)
        cut = 2 + draws.integers(steps - 2, count, d, 1)
        hold = 1 + (draws.below(cut - 1, count, d, 1))
        is_split = draws.chosen(split_share, count, d, 1)
        parent = hold.where(is_split & (parent == cut), parent)
        pairs = torch.stack([stems.gather(2, parent), arms], 3).view(count, edges, 2)
        order = draws.permutation(count, edges)
        pairs = pairs.gather(1, order[:, :, None].expand_as(pairs))
        # The gold arm may always be arm 0: arms are exchangeable, and the order of the edges hides it.
        ends_at_cut = is_split[:, 0] & (draws.integers(2, count, 1) == 1)
        goal = stems[:, 0].gather(1, cut[:, 0].where(ends_at_cut, steps))
        return self._batch(pairs, start, goal)

    def _verify_shape(self, children: dict[int, list[int]], root: int) -> None:
        whole = len(children[root]) == self.degree
        for arm in children[root]:
            nodes = [arm]
            for node in nodes:  # which grows
                nodes += children.get(node, [])
            splits = sorted(len(children[node]) for node in nodes if len(children.get(node, [])) > 1)
            whole &= len(nodes) == self.path_length - 1 and splits in ([], [2])
        if not whole:
            raise InputError(
                f"the edges are not a star around {root}; expected {self.degree} arms of {self.path_length} "
                "nodes, each split at most once, into two"
            )
