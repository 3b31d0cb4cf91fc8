"""Random binary trees: every step of the path to a leaf is a decision."""

from typing import Annotated, Literal

import torch
from jaxtyping import Int
from pydantic import Field
from torch import Tensor

from forethought.errors import InputError
from forethought.tasks.base import Batch
from forethought.tasks.draw import Draws
from forethought.tasks.graph_prompt import GraphPrompt, graph_prompt
from forethought.tasks.tree import TreePath
from forethought.validation import validated_dataclass


@validated_dataclass
class BinaryTree(TreePath):
    """Path from the root of a random binary tree to one of its leaves, at random.

    Every inner node has two children. A tree grows from its root: a random leaf gets two children, until
    there are `leaves` (m) leaves, on 2m - 1 nodes. m = 4:

        graph    5 ┬ 2
                   └ 0 ┬ 6
                       └ 3 ┬ 1
                           └ 4
        text     3,1|5,0|0,6|3,4|5,2|0,3/5,4=5,0,3,4
        prompt   3 1 | 5 0 | 0 6 | 3 4 | 5 2 | 0 3 / 5 4 =
        answer   5 0 3 4 end
                   ^ ^                    the decisions: 2 or 0? 6 or 3? (chance 1/2 each)

    The last node is the goal, which the prompt gives away. A policy that follows edges, and takes a random
    child where none is the goal, finds a leaf at depth D with probability 2^(1 - D), and a random leaf with
    2/m (`chance`): over the leaves of such a tree, 2^-D sums to 1. A policy that also looks whether a child
    is a leaf does better: 43 % in place of 25 % for 8 leaves, and no error for 3.

    Sources: "multi-token prediction plans" (2604.11912), a tree of 5 nodes: `leaves=3`, as no other shape
    has so many. Brinkmann et al., "A Mechanistic Analysis of a Transformer Trained on a Symbolic Multi-Step
    Reasoning Task" (2402.11917): trees of 16 nodes. Theirs are grown around a path of random length, where
    an inner node may have one child; their prompt holds no root; and half of their test, too, is listed
    backwards.

    Args:
        leaves: number of leaves m; 8 (15 nodes) is nearest to Brinkmann et al.
        node_ids: `shared`: a node is one token. `by_role`, as Brinkmann et al.: a node is `>v` where it ends
            an edge or a step of the answer, and `v` otherwise (at the beginning of an edge, as root, and as
            goal of the query).
        backward_share: share of the training graphs that list each edge before those that lead to it. All
            others, and those of the test, are shuffled. Brinkmann et al.: 0.5.
        num_nodes: number of node names to draw from, at least 2m - 1; None: exactly that many.

    Raises:
        Impossible: `num_nodes` is too small for the tree.
    """

    leaves: int = Field(default=8, ge=3, le=1000)
    node_ids: Literal["shared", "by_role"] = "shared"
    backward_share: Annotated[float, Field(ge=0, le=1)] = 0.0

    @property
    def num_edges(self) -> int:
        return 2 * (self.leaves - 1)

    @property
    def longest_path(self) -> int:
        return self.leaves

    @property
    def _form(self) -> GraphPrompt:
        return graph_prompt(self.num_nodes, self.num_edges, by_role=self.node_ids == "by_role", closed=True)

    @property
    def chance(self) -> float:
        return 2 / self.leaves

    @property
    def decision_chance(self) -> float:
        return 1 / 2

    def sample(self, count: int, draws: Draws) -> Batch:
        return self._draw(count, draws, 0.0)

    def sample_training(self, count: int, draws: Draws) -> Batch:
        return self._draw(count, draws, self.backward_share)

    def _draw(self, count: int, draws: Draws, backward_share: float) -> Batch:
        m, edges = self.leaves, self.num_edges
        names = draws.permutation(count, self.num_nodes, edges + 1)
        # Nodes are numbered by age: the k-th step gives a leaf the children 2k - 1 and 2k.
        leaves, tails = torch.zeros_like(names[:, :m]), []
        for k in range(1, m):
            place = draws.integers(k, count, 1)
            parent = leaves.gather(1, place)
            tails += [parent, parent]
            leaves.scatter_(1, place, 2 * k - 1)
            leaves[:, k] = 2 * k
        goal = leaves.gather(1, draws.integers(m, count, 1))
        pairs = torch.stack([names.gather(1, torch.cat(tails, 1)), names[:, 1:]], 2)
        # An edge to an older node is listed after all edges that leave it.
        by_age = torch.arange(edges - 1, -1, -1, device=names.device)
        is_backward = draws.chosen(backward_share, count, 1)
        order = by_age.where(is_backward, draws.permutation(count, edges))
        pairs = pairs.gather(1, order[:, :, None].expand_as(pairs))
        return self._batch(pairs, names[:, :1], names.gather(1, goal))

    def strata(self, batch: Batch) -> dict[str, Int[Tensor, " B"]]:
        """Return the number of edges from the root to the goal."""
        return {"depth": (batch.answer == self.end).int().argmax(1) - 1}

    @property
    def strata_sizes(self) -> dict[str, int]:
        return {"depth": self.leaves}

    def _verify_shape(self, children: dict[int, list[int]], root: int) -> None:
        if odd := [node for node, below in children.items() if len(below) != 2]:
            raise InputError(f"node {odd[0]} has {len(children[odd[0]])} children; expected 0 or 2")
