"""Two children of one parent, from a hidden world: name pairs of siblings that training did not show."""

from functools import lru_cache
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Int
from pydantic import Field
from torch import Tensor

from forethought.errors import Impossible
from forethought.tasks.base import Batch
from forethought.tasks.draw import Draws
from forethought.tasks.graph import first_outcome, hash_edges, to_device
from forethought.tasks.open_ended import OpenEnded
from forethought.validation import validated_dataclass

_MOST_NODES = 100_000


@validated_dataclass
class SiblingDiscovery(OpenEnded):
    """Any two children of one parent, and the parent, in a world that only training rows show.

    Each of P = `parents` parents has C = `children` children of its own. All names are random numbers. With
    P = 2 and C = 3:

             1               6
           ↙ ↓ ↘           ↙ ↓ ↘        text     gcpgv=4,5,1
          5  3  4         0  7  2       prompt   g c p g v =
                                        answer   4 5 1          loss on all three
                                                   ^
                                                   the decision: a sibling of 4?

    The parent is read off the children. But only the parent, which comes last, tells why 5 may follow 4.
    A policy that draws the second child without it is right with probability (C - 1) / (P C - 1). With
    `parent_first`, the control of the source, each token follows from the one before, and chance is 1.

    An answer is right whatever the order of the children, and counts as the same object. There are
    P C (C - 1) / 2 of them, 24,750 by default. `token_accuracy_<i>` reads the model's tokens beside the
    row's own first ones, and so says little; see the teacher-forced metrics.

    What differs from the source: the default size. A reproduction has P = 5, C = 2,500 and 50,000 rows.

    Source: Nagarajan et al., "Roll the dice & look before you leap" (2504.15266), §2; sizes of
    github.com/bansal-vansh/ntp-seed-conditioning.

    Args:
        parents: number of parents P.
        children: number of children of each parent (C).
        parent_first: answer with the parent before the children.
        graph_seed: seed of the names, for all seeds of a run.

    Raises:
        Impossible: more than 100,000 nodes.
    """

    parents: int = Field(default=5, ge=2, le=1000)
    children: int = Field(default=100, ge=2, le=_MOST_NODES)
    parent_first: bool = False
    graph_seed: int = Field(default=0, ge=0)

    outcomes: ClassVar = ("right", "not_siblings", "wrong_parent", "other")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self._nodes > _MOST_NODES:
            raise Impossible(
                f"task.parents={self.parents}, task.children={self.children}: the world has "
                f"{self._nodes} nodes; use at most {_MOST_NODES}"
            )

    @property
    def _nodes(self) -> int:
        return self.parents * (1 + self.children)

    @property
    def _groups(self) -> tuple[int, int]:
        return 1, 3

    def _world(self, device: torch.device | str) -> "_World":
        return _world(self.parents, self.children, len(self.vocabulary), self.graph_seed, str(device))

    @property
    def chance(self) -> float:
        return 1.0 if self.parent_first else (self.children - 1) / (self.parents * self.children - 1)

    @property
    def needs_plan(self) -> bool:
        return not self.parent_first

    def sample_answers(self, count: int, draws: Draws) -> Int[Tensor, "B A"]:
        world = self._world(draws.device)
        family, first = draws.integers(self.parents, count), draws.integers(self.children, count)
        second = (first + 1 + draws.integers(self.children - 1, count)) % self.children
        children = world.children[family[:, None], torch.stack([first, second], 1)]
        return torch.cat([children, world.parents[family, None]], 1).roll(int(self.parent_first), 1)

    def _split(self, answer: Int[Tensor, "B 3"]) -> tuple[Int[Tensor, "B 2"], Int[Tensor, "B 1"]]:
        """Return children and parent."""
        return (answer[:, 1:], answer[:, :1]) if self.parent_first else (answer[:, :2], answer[:, 2:])

    def canonical(self, prompt: Int[Tensor, "B P"], answer: Int[Tensor, "B A"]) -> Int[Tensor, " B"]:
        """Return a key of the set of both edges."""
        children, parent = self._split(answer)
        return hash_edges(parent.expand_as(children), children, len(self.vocabulary))

    def check(self, prompt: Int[Tensor, "B P"], answer: Int[Tensor, "B A"]) -> Int[Tensor, " B"]:
        """Return the outcome of each answer.

        * `not_siblings`: two different children and a parent; the children have different parents.
        * `wrong_parent`: siblings and the parent of others.
        * `other`: the answer has another form, or repeats a child.
        """
        world = self._world(prompt.device)
        children, parent = self._split(answer)
        formed = (world.is_child[children].all(1) & world.is_parent[parent[:, 0]]) & (
            children[:, 0] != children[:, 1]
        )
        families = world.family[children]
        siblings = families[:, 0] == families[:, 1]
        theirs = families[:, 0] == world.family[parent[:, 0]]
        return first_outcome([formed & siblings & theirs, formed & ~siblings, formed], 3)

    def accepted(self, batch: Batch) -> Bool[Tensor, "B A V"]:
        """Return all children (or parents) at the first place, then all siblings, and the one parent."""
        world = self._world(batch.prompt.device)
        children, parent = self._split(batch.answer)
        family = world.is_child & (world.family == world.family[parent])
        first = family if self.parent_first else world.is_child.expand_as(family)
        token = torch.arange(len(self.vocabulary), device=parent.device)
        second = family & (token != children[:, :1])
        if self.parent_first:
            return torch.stack([world.is_parent.expand_as(family), first, second], 1)
        return torch.stack([first, second, token == parent], 1)

    def decision_mask(self, batch: Batch) -> Bool[Tensor, "B A"]:
        """Mark the second child. If the parent comes first, no token decides."""
        mask = torch.zeros_like(batch.answer, dtype=torch.bool)
        mask[:, 1] = not self.parent_first
        return mask


class _World(NamedTuple):
    """The families, and facts of each of the V tokens."""

    parents: Int[Tensor, " P"]
    children: Int[Tensor, "P C"]
    family: Int[Tensor, " V"]  # of parents and children, from 0; P of other tokens
    is_parent: Bool[Tensor, " V"]
    is_child: Bool[Tensor, " V"]


@lru_cache(maxsize=16)
def _world(parents: int, children: int, tokens: int, seed: int, device: str) -> _World:
    """Draw the names on the CPU, so that they are the same on every device."""
    if device != "cpu":
        return to_device(_world(parents, children, tokens, seed, "cpu"), device)
    nodes = parents * (1 + children)
    names = Draws(seed, "sibling_discovery", "names").permutation(1, nodes)[0]
    # The device is named, as models that are checked without memory are built under `torch.device("meta")`.
    family = torch.full((tokens,), parents, device=device)
    # Parents take the first places, then the children of each parent.
    place = torch.arange(nodes, device=device)
    family[names] = place.where(place < parents, (place - parents) // children)
    is_parent = torch.zeros(tokens, dtype=torch.bool, device=device)
    is_parent[names[:parents]] = True
    return _World(
        parents=names[:parents],
        children=names[parents:].view(parents, children),
        family=family,
        is_parent=is_parent,
        is_child=~is_parent & (family < parents),
    )
