"""Base of tasks that ask for the path from the root of a tree to one of its leaves."""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from itertools import pairwise
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from pydantic import Field
from torch import Tensor

from forethought.errors import Impossible, InputError
from forethought.tasks.base import Batch, Task
from forethought.tasks.graph import (
    drawing_of,
    first_outcome,
    hash_edges,
    parse_star,
    refuse_outside,
    star_text,
)
from forethought.tasks.graph_prompt import GraphPrompt, graph_prompt
from forethought.validation import OR_NONE, validated_dataclass


@validated_dataclass
class TreePath(Task):
    """Path from the root of a tree to a leaf, in a prompt `a b | c d | … / root goal =`.

    All trees of a task have equally many edges. Paths may differ in length; `end` closes an answer.

    Args:
        num_nodes: number of node names to draw from; None: as many as a tree has nodes.

    Raises:
        Impossible: `num_nodes` is too small for a tree.
    """

    # None never outlives the constructor, so that the type is that of all later readers.
    num_nodes: Annotated[int, Field(ge=1, le=10_000), OR_NONE] = None  # type: ignore[assignment]

    outcomes: ClassVar = ("right", "wrong_branch", "broken_edge", "late", "other")
    following: ClassVar = "wrong_branch"

    def __post_init__(self) -> None:
        needed = self.num_edges + 1
        if self.num_nodes is None:
            self.num_nodes = needed
        if self.num_nodes < needed:
            raise Impossible(
                f"task.num_nodes={self.num_nodes}: the graph has {needed} nodes; expected at least {needed}"
            )

    @property
    @abstractmethod
    def num_edges(self) -> int:
        """Number of edges of every tree."""

    @property
    @abstractmethod
    def longest_path(self) -> int:
        """Number of nodes on the longest path, root and leaf included."""

    @abstractmethod
    def _verify_shape(self, children: dict[int, list[int]], root: int) -> None:
        """Raise InputError if the task draws no tree of this shape."""

    @property
    def _form(self) -> GraphPrompt:
        return graph_prompt(self.num_nodes, self.num_edges, closed=True)

    @property
    def vocabulary(self) -> tuple[str, ...]:
        return self._form.vocabulary

    @property
    def end(self) -> int:
        return self.dummy - 1

    @property
    def prompt_length(self) -> int:
        return self._form.length

    @property
    def answer_length(self) -> int:
        return self.longest_path + 1

    def _batch(
        self, pairs: Int[Tensor, "B E 2"], start: Int[Tensor, "B 1"], goal: Int[Tensor, "B 1"]
    ) -> Batch:
        tails, heads = pairs.unbind(2)
        path = self._path(tails, heads, start, goal)
        return Batch(self._form.write(pairs, start, goal), self._written(path))

    def _path(
        self,
        tails: Int[Tensor, "B E"],
        heads: Int[Tensor, "B E"],
        start: Int[Tensor, "B 1"],
        goal: Int[Tensor, "B 1"],
    ) -> Int[Tensor, "B A"]:
        """Return the nodes from start to goal, then `end` and padding."""
        parent = start.repeat(1, self.num_nodes).scatter(1, heads, tails)
        upward = [goal]
        for _ in range(self.longest_path - 1):
            upward.append(parent.gather(1, upward[-1]))
        nodes = torch.cat(upward, 1)
        edges = (nodes != start).sum(1, keepdim=True)
        column = torch.arange(self.longest_path, device=nodes.device)
        path = nodes.gather(1, (edges - column).clamp(min=0)).masked_fill(column > edges, self.dummy)
        return F.pad(path, (0, 1), value=self.dummy).scatter(1, edges + 1, self.end)

    def _shifts(self, answer: Int[Tensor, "B A"]) -> Int[Tensor, " A"]:
        return (torch.arange(answer.shape[1], device=answer.device) > 0) * self._form.first_head

    def _written(self, path: Int[Tensor, "B A"]) -> Int[Tensor, "B A"]:
        """Return the tokens for the nodes of a path; the inverse of `_read`."""
        return path + self._shifts(path) * (path < self.num_nodes)

    def _read(self, answer: Int[Tensor, "B A"]) -> Int[Tensor, "B A"]:
        """Return an answer with its nodes by name. A node's other token counts as padding, like no node."""
        node = answer - self._shifts(answer)
        is_node = (node >= 0) & (node < self.num_nodes)
        is_misplaced = ~is_node & (answer < self._form.bar)
        return node.where(is_node, answer.masked_fill(is_misplaced, self.dummy))

    def _graph(
        self, prompt: Int[Tensor, "B P"]
    ) -> tuple[Int[Tensor, "B E"], Int[Tensor, "B E"], Int[Tensor, "B 1"], Int[Tensor, "B 1"]]:
        """Return the tails and the heads of the edges in the order listed, the start and the goal."""
        return self._form.read(prompt)

    def _children(self, tails: Int[Tensor, "B E"]) -> Int[Tensor, "B V"]:
        """Return the number of children of every token, which is 0 for leaves and for no nodes."""
        empty = torch.zeros_like(tails[:, :1]).repeat(1, len(self.vocabulary))
        return empty.scatter_add(1, tails, torch.ones_like(tails))

    def _decisions(
        self, path: Int[Tensor, "B A"], tails: Int[Tensor, "B E"], goal: Int[Tensor, "B 1"]
    ) -> Bool[Tensor, "B A"]:
        """Mark the nodes that one look-up leaves open: one of several children, of which none is the goal."""
        several = self._children(tails).gather(1, path[:, :-1]) > 1
        return F.pad(several & (path[:, 1:] != goal), (1, 0))

    def decision_mask(self, batch: Batch) -> Bool[Tensor, "B A"]:
        tails, _, _, goal = self._graph(batch.prompt)
        return self._decisions(self._read(batch.answer), tails, goal)

    def check(self, prompt: Int[Tensor, "B P"], answer: Int[Tensor, "B A"]) -> Int[Tensor, " B"]:
        """Return the outcome of each path.

        * `wrong_branch`: after a wrong decision, the path follows edges to a leaf, and ends. The last node
          may be the goal, which the prompt gives away.
        * `broken_edge`: other nodes, with a wrong decision.
        * `late`: all decisions are right, another token is wrong.
        * `other`: the path does not begin at the start, or contains a token that is not a node.
        """
        tails, heads, start, goal = self._graph(prompt)
        path, answer = self._path(tails, heads, start, goal), self._read(self.trim(answer))
        is_end = answer == self.end
        length = (
            is_end.int().argmax(1, keepdim=True).masked_fill(~is_end.any(1, keepdim=True), answer.shape[1])
        )
        column = torch.arange(answer.shape[1], device=answer.device)
        starts = answer[:, :1] == start
        agrees = answer == path
        right = (agrees | (path == self.dummy)).all(1)
        decided = (agrees | ~self._decisions(path, tails, goal)).all(1, keepdim=True) & starts
        parent = torch.full_like(start, -1).repeat(1, len(self.vocabulary)).scatter(1, heads, tails)
        is_edge = parent.gather(1, answer[:, 1:]) == answer[:, :-1]
        earlier = (is_edge | (column[1:] >= length - 1)).all(1, keepdim=True)
        last, before = (answer.gather(1, (length - back).clamp(min=0)) for back in (1, 2))
        arrives = (parent.gather(1, last) == before) & (self._children(tails).gather(1, last) == 0)
        jumps = (last == goal) & ~(path == before).any(1, keepdim=True)
        ends = (length >= 2) & (length < answer.shape[1])
        wrong_branch = starts & earlier & ends & (arrives | jumps)
        nodes = ((answer < self.num_nodes) | (column >= length)).all(1, keepdim=True)
        broken = starts & nodes & ~decided
        kinds = [right, wrong_branch[:, 0], broken[:, 0], decided[:, 0]]
        return first_outcome(kinds, self.outcomes.index("other"))

    def distract(self, batch: Batch) -> Int[Tensor, "B A"] | None:
        """Return the path that errs at the last decision, then takes the first child listed, to a leaf.

        A row without a decision has no such path, and gets one without meaning.
        """
        tails, heads, _, goal = self._graph(batch.prompt)
        gold = self._read(batch.answer)
        column = torch.arange(gold.shape[1], device=gold.device)
        place = (self._decisions(gold, tails, goal) * column).amax(1, keepdim=True)
        avoided = gold.gather(1, place)
        path = [gold[:, :1]]
        for k in range(1, self.longest_path):
            leaves = (tails == path[-1]) & ((heads != avoided) | (place != k))
            child = heads.gather(1, leaves.int().argmax(1, keepdim=True))
            child = child.where(leaves.any(1, keepdim=True), self.dummy)
            path.append(gold[:, k : k + 1].where(place > k, child))
        nodes = F.pad(torch.cat(path, 1), (0, 1), value=self.dummy)
        return self._written(nodes.scatter(1, (nodes != self.dummy).sum(1, keepdim=True), self.end))

    def fingerprint(self, batch: Batch) -> Int[Tensor, " B"]:
        """Hash the set of edges alone, in any order: a graph is held out with all of its goals."""
        tails, heads, _, _ = self._graph(batch.prompt)
        return hash_edges(tails, heads, self.num_nodes)

    def text(self, prompt: Int[Tensor, " P"], answer: Int[Tensor, " A"]) -> str:
        tails, heads, start, goal = (x[0].tolist() for x in self._graph(prompt[None]))
        path = [node for node in self._read(answer[None])[0].tolist() if node < self.num_nodes]
        return star_text(zip(tails, heads, strict=True), start[0], goal[0], path)

    def parse(self, line: str) -> tuple[list[int], list[int]]:
        edges, start, goal, path = parse_star(line)
        if len(edges) != self.num_edges:
            raise InputError(f"{len(edges)} edges; expected {self.num_edges}")
        refuse_outside([node for edge in edges for node in edge] + [start, goal, *path], self.num_nodes)
        self._verify(edges, start, goal, path)
        batch = self._batch(torch.tensor([edges]), torch.tensor([[start]]), torch.tensor([[goal]]))
        answer = batch.answer[0]
        return batch.prompt[0].tolist(), answer[answer != self.dummy].tolist()

    def _verify(self, edges: list[tuple[int, int]], start: int, goal: int, path: list[int]) -> None:
        """Reject graphs that the task does not draw: all later code relies on their shape."""
        children, reached = defaultdict[int, list[int]](list), [start]
        for tail, head in edges:
            children[tail].append(head)
        for node in reached:  # which grows; a circle or a second way makes it too long
            reached += children.get(node, []) if len(reached) <= len(edges) else []
        if len({*reached}) != len(edges) + 1 or len(reached) != len(edges) + 1:
            raise InputError(f"the edges are not a tree with the root {start}; correct the graph")
        self._verify_shape(children, start)
        linked = all(head in children.get(tail, []) for tail, head in pairwise(path))
        if not linked or (path[0], path[-1]) != (start, goal) or goal in children:
            wrong = ",".join(map(str, path))
            raise InputError(f"{wrong} is not the path from {start} to the leaf {goal}; correct the answer")

    def drawing(self, prompt: Int[Tensor, " P"]) -> dict[str, Any]:
        tails, heads, start, goal = (x[0].tolist() for x in self._graph(prompt[None]))
        return drawing_of(zip(tails, heads, strict=True), start[0], goal[0])
