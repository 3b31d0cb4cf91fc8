"""Base of tasks that ask for a shuffled list of edges which some order joins into one shape."""

import math
from typing import Annotated, ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Int
from pydantic import Field
from torch import Tensor

from forethought.errors import Impossible
from forethought.tasks.continuation import Continuation
from forethought.tasks.draw import Draws
from forethought.tasks.graph import first_outcome, hash_edges
from forethought.tasks.open_ended import OpenEnded
from forethought.validation import validated_dataclass


@validated_dataclass
class EdgeList(OpenEnded, Continuation):
    """Base of `CircleConstruction` and `LineConstruction`.

    An answer lists E directed edges between N of M labels, in an order that is drawn at random. The resolving
    permutation is the order in which the edges join. Answers with the same permutation are the same object,
    whatever the labels. There are (N - 1)! permutations.

    Args:
        nodes: labels of a shape (N).
        labels: number of labels (M).

    Raises:
        Impossible: more nodes than labels.
    """

    train_samples: Annotated[int, Field(gt=0, le=10_000_000)] | None = 10_000
    nodes: int = Field(default=9, ge=3, le=20)
    labels: int = Field(default=15, ge=3, le=10_000)

    outcomes: ClassVar = ("right", "wrong_shape", "pieces", "branches", "other")
    closes: ClassVar[bool]
    """True if the last edge leads back to the first."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nodes > self.labels:
            raise Impossible(
                f"task.nodes={self.nodes}: out of range for task.labels={self.labels}; "
                f"use at most {self.labels}"
            )

    @property
    def _nodes(self) -> int:
        return self.labels

    @property
    def _groups(self) -> tuple[int, int]:
        return self.nodes - (not self.closes), 2

    @property
    def chance(self) -> float:
        """Accuracy of a policy that uses each label once as a tail and once as a head, in different edges.

        It foresees no shape. The edges join into one circle in (N - 1)! of the D_N arrangements without a
        fixed point. A line is a circle without one of its edges, and has the same chance.
        """
        return math.factorial(self.nodes - 1) / _derangements(self.nodes)

    def sample_answers(self, count: int, draws: Draws) -> Int[Tensor, "B A"]:
        nodes = draws.permutation(count, self.labels, self.nodes)
        edges = torch.stack([nodes, nodes.roll(-1, 1)], 2)[:, : self._groups[0]]
        order = draws.permutation(count, self._groups[0])
        return edges.gather(1, order[..., None].expand_as(edges)).flatten(1)

    def canonical(self, prompt: Int[Tensor, "B P"], answer: Int[Tensor, "B A"]) -> Int[Tensor, " B"]:
        """Return a key of the resolving permutation; that of a circle begins with the first edge."""
        order = join(answer).order
        place = torch.arange(order.shape[1], device=order.device).expand_as(order)
        return hash_edges(place, order, order.shape[1])

    def check(self, prompt: Int[Tensor, "B P"], answer: Int[Tensor, "B A"]) -> Int[Tensor, " B"]:
        """Return the outcome of each answer.

        * `wrong_shape`: the edges join into one line instead of a circle, or into one circle.
        * `pieces`: they join into several lines and circles.
        * `branches`: two edges leave a label, or two enter it.
        * `other`: not all tokens are labels.
        """
        formed, joined = (answer < self.labels).all(1), join(answer)
        simple = formed & ~joined.branches
        whole = simple & joined.is_whole
        right = whole & (joined.is_closed == self.closes)
        return first_outcome([right, whole, simple, formed], self.outcomes.index("other"))


class Joined(NamedTuple):
    """The order in which the edges of each row join, and whether they do."""

    order: Int[Tensor, "B E"]  # places of the edges on the walk; meaningless if they are not whole
    is_whole: Bool[Tensor, " B"]  # one walk takes all of them
    is_closed: Bool[Tensor, " B"]  # and returns to its first one
    branches: Bool[Tensor, " B"]  # two edges share a tail or a head; the rest is then meaningless


def join(answer: Int[Tensor, "B A"]) -> Joined:
    """Walk along the edges from one that no other leads to, else from the first."""
    tails, heads = answer[:, 0::2], answer[:, 1::2]
    joins = heads[:, :, None] == tails[:, None]  # (B, E, E): the first edge leads to the second
    start = (~joins.any(1)).int().argmax(1, keepdim=True)  # the first edge, if all are led to
    ends, following = ~joins.any(2), joins.int().argmax(2)
    edge, order, stops = start, [start], torch.zeros_like(start, dtype=torch.bool)
    for _ in range(tails.shape[1] - 1):
        stops = stops | ends.gather(1, edge) | (following.gather(1, edge) == start)
        edge = following.gather(1, edge)
        order.append(edge)
    last_leads_on = ~ends.gather(1, edge) & (following.gather(1, edge) == start)
    equal = (tails[:, :, None] == tails[:, None]) | (heads[:, :, None] == heads[:, None])
    return Joined(
        order=torch.cat(order, 1),
        is_whole=~stops[:, 0],
        is_closed=last_leads_on[:, 0],
        branches=equal.sum((1, 2)) > tails.shape[1],
    )


def _derangements(count: int) -> int:
    """Return the number of permutations without a fixed point."""
    number = 1
    for size in range(1, count + 1):
        number = size * number + (-1) ** size
    return number
