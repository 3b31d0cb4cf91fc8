"""One fixed star whose edges are memorised: paths are asked for on arms that training left out."""

import re
from functools import lru_cache
from typing import Any, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from forethought.errors import Impossible, InputError
from forethought.tasks.base import TEST, TRAIN, VALIDATION, Batch, Task
from forethought.tasks.draw import Draws
from forethought.tasks.graph import drawing_of, first_outcome, refuse_outside, to_device
from forethought.validation import validated_dataclass

_MOST_NODES = 100_000

_DRAWN_NODES = 64

_FORWARD, _BACKWARD, _PATH, _PAUSE, _END, _DUMMY = range(6)
_MARKS = (">", "<", "path", "pause", "end", "$")
"""Tokens after the nodes, in this order."""


@validated_dataclass
class InWeightsPathStar(Task):
    """Path from the centre of one fixed star to a leaf, with the edges learned, not listed.

    All rows share the path-star G(d, l) of `graph_seed`: a root with d = `degree` arms of l = `path_length`
    nodes each, the root counted. Training interleaves edges, asked for in both directions, with the paths of
    three quarters of the leaves. An eighth of the leaves is for validation and an eighth for the test, the
    same for every seed of a run. Three of the arms of G(d, 4), with two pauses:

            8 → 5 → 2           text         prompt                answer
          ↗                     5=2          $    $ > 5            2 end        the edge 5 → 2, forward
        0 → 3 → 6 → 9           2=5          $    $ < 2            5 end        the same edge, backward
          ↘                     2=0,8,5,2    path 2 pause pause    0 8 5 2 end  the path to 2
            1 → 7 → 4                                                ^
                                             the decision: 8, 3, 1 or another arm? (chance 1/d)

    Each later node follows from the one before it by an edge, and the leaf from the prompt. Only the first
    hop needs a plan: l - 2 edges backward from the leaf, on an arm of which no path was ever shown.

    After `> 0`, all d first hops are right: the row holds one at random, and `targets` spreads the loss over
    all of them. Objectives that train on the answer itself have the same loss on average.

    `shape=tree` branches: each node between root and leaves has two children, so that every step up to the
    leaf's parent is a decision. The tree T(d, l) has d 2^(l-2) leaves. Its decisions have a chance of
    1/(d 2^(l-3)), as the last step copies the leaf; the source counts that step too.

    In the source, forward edges alone fail, and backward edges alone give only the reverse path. A leaf that
    is held out is then never a target, so that its copy may fail though the decision is right.

    Source: Noroozizadeh et al., "Deep sequence models tend to memorize geometrically" (2510.26745), §2 and
    App. B to D; text as in github.com/Shahriarnz14/Geometric_Memory. Its prompts mark both directions of an
    edge alike, its answers hold no end token, and it has no validation leaves.

    Args:
        degree: number of arms d.
        path_length: nodes on an arm, root included (l).
        shape: `path` or `tree`.
        edges: directions in which edges are taught: `forward` (child of a node), `backward` (parent) or both.
        edge_share: share of edges among the training rows.
        pauses: pause tokens between the leaf and the path.
        reverse: answer from the leaf back to the root; a look-up of a backward edge then gives every token.
        split: of a tree, hold out single leaves (`leaf`), or all leaves below a first hop (`first_token`),
            the harder test. The arms of a path-star have one leaf each, so that both are the same.
        graph_seed: seed of the nodes' names and of the leaves held out, for all seeds of a run.

    Raises:
        Impossible: fewer than 8 leaves (or first hops) to divide, or more than 100,000 nodes.
    """

    degree: int = Field(default=200, ge=1, le=_MOST_NODES)
    path_length: int = Field(default=4, ge=3, le=1000)
    shape: Literal["path", "tree"] = "path"
    edges: Literal["forward", "backward", "both"] = "both"
    edge_share: float = Field(default=0.8, ge=0, lt=1)
    pauses: int = Field(default=4, ge=0, le=1000)
    reverse: bool = False
    split: Literal["leaf", "first_token"] = "leaf"
    graph_seed: int = Field(default=0, ge=0)

    outcomes: ClassVar = ("right", "wrong_arm", "broken_edge", "late", "other")
    following: ClassVar = "wrong_arm"

    def __post_init__(self) -> None:
        sizes = self._level_sizes
        if sum(sizes) > _MOST_NODES:
            raise Impossible(
                f"task.degree={self.degree}, task.path_length={self.path_length}, task.shape={self.shape}: "
                f"the graph has more than {_MOST_NODES} nodes; use fewer or shorter arms"
            )
        divided, named = (self.degree, "first hops") if self.split == "first_token" else (sizes[-1], "leaves")
        if divided < 8:
            raise Impossible(
                f"task.degree={self.degree}: {divided} {named}; expected at least 8, as one in eight is for "
                "validation and one for the test"
            )

    @property
    def _level_sizes(self) -> list[int]:
        """The number of nodes at each distance from the root."""
        branches = 2 if self.shape == "tree" else 1
        return [1, *(self.degree * branches**level for level in range(self.path_length - 1))]

    @property
    def num_nodes(self) -> int:
        return sum(self._level_sizes)

    def _world(self, device: torch.device | str = "cpu") -> "_World":
        unit = self._level_sizes[-1] // self.degree if self.split == "first_token" else 1
        return _world(tuple(self._level_sizes), unit, self.graph_seed, str(device))

    def _mark(self, mark: int) -> int:
        return self.num_nodes + mark

    @property
    def vocabulary(self) -> tuple[str, ...]:
        return self._world().vocabulary

    @property
    def end(self) -> int:
        return self._mark(_END)

    @property
    def padded_prompts(self) -> bool:
        return self.pauses > 0

    @property
    def prompt_length(self) -> int:
        return 2 + self.pauses

    @property
    def answer_length(self) -> int:
        return self.path_length + 1

    @property
    def _decisions(self) -> int:
        return self.path_length - 2 if self.shape == "tree" else 1

    @property
    def chance(self) -> float:
        return 1 / (self.degree * 2.0 ** (self._decisions - 1))

    @property
    def decision_chance(self) -> float:
        return (1 / self.degree + (self._decisions - 1) / 2) / self._decisions

    @property
    def needs_plan(self) -> bool:
        return not self.reverse

    def sample(self, count: int, draws: Draws) -> Batch:
        """Draw paths to leaves of all parts. Only training asks for edges."""
        world = self._world(draws.device)
        return self._path_rows(world.paths[draws.integers(len(world.paths), count)])

    def sample_training(self, count: int, draws: Draws) -> Batch:
        """Draw edges, and paths to the training leaves. Each row is an edge with probability `edge_share`."""
        world = self._world(draws.device)
        is_edge = draws.chosen(self.edge_share, count)
        paths = self._path_rows(world.paths[world.train[draws.integers(len(world.train), count)]])
        heads = world.heads[draws.integers(len(world.heads), count)]
        if self.edges == "both":
            mark = draws.integers(2, count)
        else:
            mark = torch.full_like(heads, _FORWARD if self.edges == "forward" else _BACKWARD)
        edges = self._edge_rows(world.parent[heads], heads, mark)
        return Batch(
            edges.prompt.where(is_edge[:, None], paths.prompt),
            edges.answer.where(is_edge[:, None], paths.answer),
        )

    def _path_rows(self, path: Int[Tensor, "B L"]) -> Batch:
        mark = path.new_full((len(path), 1), self._mark(_PATH))
        prompt = F.pad(torch.cat([mark, path[:, -1:]], 1), (0, self.pauses), value=self._mark(_PAUSE))
        return Batch(prompt, self._answer(path))

    def _answer(self, path: Int[Tensor, "B L"]) -> Int[Tensor, "B A"]:
        return F.pad(path.flip(1) if self.reverse else path, (0, 1), value=self.end)

    def _edge_rows(
        self, tails: Int[Tensor, " B"], heads: Int[Tensor, " B"], mark: Int[Tensor, " B"]
    ) -> Batch:
        """Return the rows that ask for the heads (mark 0, forward) or the tails (mark 1, backward)."""
        forward = mark == _FORWARD
        node, neighbour = tails.where(forward, heads), heads.where(forward, tails)
        prompt = torch.stack([self._mark(0) + mark, node], 1)
        answer = torch.stack([neighbour, torch.full_like(node, self.end)], 1)
        return Batch(
            F.pad(prompt, (self.pauses, 0), value=self.dummy),
            F.pad(answer, (0, self.answer_length - 2), value=self.dummy),
        )

    def _query(self, prompt: Int[Tensor, "B P"]) -> tuple[Bool[Tensor, " B"], Int[Tensor, " B"]]:
        """Return which rows ask for a path, and the node that each row asks about."""
        is_path = prompt[:, 0] == self._mark(_PATH)
        return is_path, prompt[:, 1].where(is_path, prompt[:, -1])

    def check(self, prompt: Int[Tensor, "B P"], answer: Int[Tensor, "B A"]) -> Int[Tensor, " B"]:
        """Return the outcome of each path or edge.

        * `wrong_arm`: the path to another leaf. Its last token may be the leaf that the prompt gives away.
        * `late`: the first two tokens of a path are right, a later token is wrong.
        * `broken_edge`: other nodes, as many as a path has, from the root. Of an edge: a node that is not a
          neighbour in this direction.
        * `other`: the path does not begin at the root, or the answer has another form.
        """
        world = self._world(prompt.device)
        is_path, node = self._query(prompt)
        path = answer[:, :-1].flip(1) if self.reverse else answer[:, :-1]
        gold = world.paths[world.leaf[node]]
        nodes = path.clamp(max=self.num_nodes - 1)  # The other tokens have no parent.
        along = world.parent[nodes[:, 1:]] == nodes[:, :-1]
        walks = along[:, :-1].all(1) & (along[:, -1] | (path[:, -1] == node))
        formed = (path < self.num_nodes).all(1) & (answer[:, -1] == self.end)
        begins = formed & (path[:, 0] == world.paths[0, 0])
        decided = (answer[:, :2] == self._answer(gold)[:, :2]).all(1)

        neighbour = answer[:, 0].clamp(max=self.num_nodes - 1)
        forward = prompt[:, -2] == self._mark(_FORWARD)
        joined = world.parent[neighbour.where(forward, node)] == node.where(forward, neighbour)
        closed = (answer[:, 0] < self.num_nodes) & (answer[:, 1] == self.end)

        kinds = [
            torch.where(is_path, begins & (path == gold).all(1), closed & joined),
            is_path & begins & walks,
            torch.where(is_path, begins & ~decided, closed),
            is_path & decided,
        ]
        return first_outcome(kinds, self.outcomes.index("other"))

    def decision_mask(self, batch: Batch) -> Bool[Tensor, "B A"]:
        """Mark the first hop of a path (in a tree, all nodes between root and leaf), and an edge's answer.

        No rule derives an edge. Without this mark, `decision_only` would not learn the graph.
        """
        is_path, _ = self._query(batch.prompt)
        place = torch.arange(batch.answer.shape[1], device=batch.answer.device)
        return torch.where(is_path[:, None], (place > 0) & (place <= self._decisions), place == 0)

    def targets(self, batch: Batch) -> Float[Tensor, "B A V"] | None:
        """Spread the answer of a forward edge over all children. None: edges are taught backward alone."""
        if self.edges == "backward":
            return None
        world = self._world(batch.prompt.device)
        _, node = self._query(batch.prompt)
        targets = F.one_hot(batch.answer, len(self.vocabulary)).float()
        children = F.pad((world.parent == node[:, None]).float(), (0, len(_MARKS)))
        children /= children.sum(1, keepdim=True).clamp(min=1)
        is_forward = batch.prompt[:, -2:-1] == self._mark(_FORWARD)
        targets[:, 0] = children.where(is_forward, targets[:, 0])
        return targets

    def distract(self, batch: Batch) -> Int[Tensor, "B A"] | None:
        """Return the path of the next arm. If reversed, the first token stays the leaf. None for a tree."""
        if self.shape == "tree":
            return None
        world = self._world(batch.prompt.device)
        _, node = self._query(batch.prompt)
        answer = self._answer(world.paths[(world.leaf[node] + 1) % self.degree])
        if self.reverse:
            answer[:, 0] = node
        return answer

    def part(self, batch: Batch) -> Int[Tensor, " B"]:
        """Return the part of each leaf. Edges are for training."""
        world = self._world(batch.prompt.device)
        is_path, node = self._query(batch.prompt)
        return world.part[world.leaf[node]].where(is_path, TRAIN)

    def text(self, prompt: Int[Tensor, " P"], answer: Int[Tensor, " A"]) -> str:
        """Return `leaf=root,v1,…,leaf`, whatever `reverse` is, or `tail=head` or `head=tail`."""
        is_path, node = self._query(prompt[None])
        nodes = [token for token in answer.tolist() if token < self.num_nodes]
        if self.reverse and is_path:
            nodes.reverse()
        return f"{int(node)}={','.join(map(str, nodes))}"

    def parse(self, line: str) -> tuple[list[int], list[int]]:
        if not re.fullmatch("[0-9]{1,9}=[0-9]{1,9}(?:,[0-9]{1,9})*", line):
            raise InputError(f"{line[:40]!r} is malformed; expected leaf=root,v1,…,leaf or u=v")
        node, *answer = map(int, re.split("[=,]", line))
        refuse_outside([node, *answer], self.num_nodes)
        world = self._world()
        path = world.paths[world.leaf[node]]
        if answer == path.tolist() and answer[-1] == node:
            row = self._path_rows(path[None])
        elif len(answer) == 1 and world.parent[answer[0]] == node and self.edges != "backward":
            row = self._edge_rows(*torch.tensor([[node], answer, [_FORWARD]]))
        elif len(answer) == 1 and world.parent[node] == answer[0] and self.edges != "forward":
            row = self._edge_rows(*torch.tensor([answer, [node], [_BACKWARD]]))
        else:
            raise InputError(
                f"{line[:40]!r} is not a path from the root to a leaf, nor an edge in a direction of "
                f"task.edges={self.edges}, in the star of task.graph_seed={self.graph_seed}; correct it"
            )
        return row.prompt[0].tolist(), row.answer[0].tolist()

    def drawing(self, prompt: Int[Tensor, " P"]) -> dict[str, Any] | None:
        """Return the whole graph of a path's row. None for edges, and for more than 64 nodes."""
        is_path, node = self._query(prompt[None])
        if self.num_nodes > _DRAWN_NODES or not is_path:
            return None
        world = self._world()
        edges = torch.stack([world.parent[world.heads], world.heads], 1).tolist()
        return drawing_of(edges, int(world.paths[0, 0]), int(node))


class _World(NamedTuple):
    """The graph with N nodes and K leaves, and the division of its leaves."""

    vocabulary: tuple[str, ...]
    paths: Int[Tensor, "K L"]  # from the root to each leaf
    parent: Int[Tensor, " N"]  # of each node; of the root N, which is no node
    heads: Int[Tensor, " E"]  # all nodes but the root: each has one edge that enters it
    leaf: Int[Tensor, " N"]  # the row of `paths` of each leaf; 0 for other nodes
    part: Int[Tensor, " K"]  # of each leaf
    train: Int[Tensor, " T"]  # the leaves that are for training


@lru_cache(maxsize=16)
def _world(level_sizes: tuple[int, ...], unit: int, seed: int, device: str) -> _World:
    """Draw the names and the parts on the CPU, so that they are the same on every device.

    Args:
        level_sizes: the number of nodes at each distance from the root.
        unit: consecutive leaves that stay in one part.
    """
    if device != "cpu":
        return to_device(_world(level_sizes, unit, seed, "cpu"), device)
    nodes, leaves = sum(level_sizes), level_sizes[-1]
    names = Draws(seed, "in_weights_path_star", "names").permutation(1, nodes)[0]
    # The nodes of a level take consecutive places, in the order of the leaves below them.
    levels = names.split(list(level_sizes))
    paths = torch.stack([level.repeat_interleave(leaves // len(level)) for level in levels], 1)
    parent = torch.full_like(names, nodes)
    parent[paths[:, 1:]] = paths[:, :-1]
    leaf = torch.zeros_like(names)
    # Named, as models that are checked without memory are built under `torch.device("meta")`.
    leaf[paths[:, -1]] = torch.arange(leaves, device=device)
    groups = leaves // unit
    order = Draws(seed, "in_weights_path_star", "parts").permutation(1, groups)[0]
    group_part = torch.full_like(order, TRAIN)
    group_part[order[: groups // 8]] = VALIDATION
    group_part[order[groups // 8 : groups // 4]] = TEST
    part = group_part.repeat_interleave(unit)
    return _World(
        vocabulary=(*map(str, range(nodes)), *_MARKS),
        paths=paths,
        parent=parent,
        heads=names[1:],
        leaf=leaf,
        part=part,
        train=(part == TRAIN).nonzero()[:, 0],
    )
