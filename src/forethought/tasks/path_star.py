"""The path-star graph G(d, l): the smallest task on which next-token prediction fails to plan."""

import re
from itertools import chain
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Bool, Int
from pydantic import Field
from torch import Tensor

from forethought.errors import Impossible, InputError
from forethought.tasks.base import Batch, Task
from forethought.tasks.draw import Draws
from forethought.tasks.graph import (
    drawing_of,
    first_outcome,
    hash_edges,
    parse_star,
    refuse_outside,
    star_text,
)
from forethought.validation import OR_NONE, validated_dataclass

_MOST_NODES = 10_000
_SEPARATORS = str.maketrans("|,/=", "    ")


@validated_dataclass
class PathStar(Task):
    """Path from the centre of a star to the end of one of its arms.

    A start node has `degree` arms of `path_length` nodes each (the start counted). The prompt lists the
    `degree * (path_length - 1)` edges, the start and the goal; the answer is the path. G(2, 3), N = 10:

        text     2,8|5,2|5,9|9,3/5,8=          5,2,8
        prompt   2 8 | 5 2 | 5 9 | 9 3 / 5 8 =
        answer                                 5 2 8      loss on these three
                                                 ^        the decision: 2 or 9? (chance 1/d)

    The first answer token is a copy of the start. From the third on, each token follows from the one
    before it by looking up an edge (the Clever Hans cheat). Only the second needs a plan.

    Source: Bachmann & Nagarajan, "The Pitfalls of Next-Token Prediction", ICML 2024, §4 and App. A.

    Args:
        degree: number of arms d.
        path_length: nodes on an arm, start included (l).
        num_nodes: number N of node names to draw from, at least d (l - 1) + 1; None: exactly that many.
        reverse: answer from the goal back to the start; a look-up then predicts every token.
        edge_order: `shuffled` as published; `by_arm` lists arm after arm from the start outwards, in
            the order of their first node's name; `arms_permuted` puts the arms into random order.
        query_position: `last` as published (`edges/start,goal=`) or `first` (`/start,goal` then edges).

    Raises:
        Impossible: `num_nodes` is too small for the graph, or the graph has more than 10,000 nodes.
    """

    degree: int = Field(default=2, ge=1, le=1000)
    path_length: int = Field(default=4, ge=2, le=1000)
    # None never outlives the constructor, so that the type is that of all later readers.
    num_nodes: Annotated[int, Field(ge=1, le=_MOST_NODES), OR_NONE] = None  # type: ignore[assignment]
    reverse: bool = False
    edge_order: Literal["shuffled", "by_arm", "arms_permuted"] = "shuffled"
    query_position: Literal["last", "first"] = "last"

    outcomes: ClassVar[tuple[str, ...]] = ("right", "wrong_arm", "broken_edge", "late", "other")
    following: ClassVar[str | None] = "wrong_arm"

    def __post_init__(self) -> None:
        needed = self.degree * (self.path_length - 1) + 1
        if self.num_nodes is None:
            self.num_nodes = needed
        if needed > _MOST_NODES:
            raise Impossible(
                f"task.degree={self.degree}, task.path_length={self.path_length}: the graph has {needed} "
                f"nodes; expected at most {_MOST_NODES}"
            )
        if self.num_nodes < needed:
            raise Impossible(
                f"task.num_nodes={self.num_nodes}: G({self.degree},{self.path_length}) has {needed} "
                f"nodes; expected at least {needed}"
            )

    @property
    def vocabulary(self) -> tuple[str, ...]:
        return (*map(str, range(self.num_nodes)), "|", "=", "/", "$")

    @property
    def num_edges(self) -> int:
        return self.degree * (self.path_length - 1)

    @property
    def prompt_length(self) -> int:
        return 3 * self.num_edges + 3

    @property
    def answer_length(self) -> int:
        return self.path_length

    @property
    def chance(self) -> float:
        # On a path of two nodes the decision token is the goal, which the prompt gives away.
        return 1.0 if self.path_length == 2 else 1 / self.degree

    @property
    def needs_plan(self) -> bool:
        return not self.reverse

    def sample(self, count: int, draws: Draws) -> Batch:
        d, steps, edges = self.degree, self.path_length - 1, self.num_edges
        nodes = draws.permutation(count, self.num_nodes, edges + 1)
        start, arms = nodes[:, :1], nodes[:, 1:].reshape(count, d, steps)
        # The gold arm may always be arm 0: arms are exchangeable, and the order of the edges hides it.
        gold = arms[:, 0]
        if self.edge_order == "by_arm":
            order = arms[:, :, 0].argsort(1)
            arms = arms.gather(1, order[:, :, None].expand_as(arms))
        elif self.edge_order == "arms_permuted":
            arms = arms.gather(1, draws.permutation(count, d)[:, :, None].expand_as(arms))
        tails = torch.cat([start[:, None].expand(count, d, 1), arms[:, :, :-1]], 2)
        pairs = torch.stack([tails, arms], 3).reshape(count, edges, 2)
        if self.edge_order == "shuffled":
            pairs = pairs.gather(1, draws.permutation(count, edges)[:, :, None].expand_as(pairs))
        return Batch(self._prompt(pairs, start, gold[:, -1:]), self._answer(start, gold))

    def _prompt(
        self, pairs: Int[Tensor, "B E 2"], start: Int[Tensor, "B 1"], goal: Int[Tensor, "B 1"]
    ) -> Int[Tensor, "B P"]:
        bar, equals, slash = (torch.full_like(start, self.num_nodes + i) for i in range(3))
        listed = torch.cat([pairs, bar[:, None].expand(-1, self.num_edges, 1)], 2).flatten(1)[:, :-1]
        if self.query_position == "first":
            return torch.cat([slash, start, goal, listed, equals], 1)
        return torch.cat([listed, slash, start, goal, equals], 1)

    def _answer(self, start: Int[Tensor, "B 1"], arm: Int[Tensor, "B K"]) -> Int[Tensor, "B A"]:
        path = torch.cat([start, arm], 1)
        return path.flip(1) if self.reverse else path

    def _graph(
        self, prompt: Int[Tensor, "B P"]
    ) -> tuple[Int[Tensor, "B E"], Int[Tensor, "B E"], Int[Tensor, "B 1"], Int[Tensor, "B 1"]]:
        """Return the tails and the heads of the edges in the order listed, the start and the goal."""
        first = 0 if self.query_position == "last" else 3
        listed = prompt[:, first : first + 3 * self.num_edges - 1]
        query = prompt[:, :3] if first else prompt[:, -4:-1]
        return listed[:, 0::3], listed[:, 1::3], query[:, 1:2], query[:, 2:3]

    def _arms(self, prompt: Int[Tensor, "B P"]) -> Int[Tensor, "B D K"]:
        """Return the nodes of every arm after the start, arms in the order of their first edges."""
        tails, heads, start, _ = self._graph(prompt)
        successor = prompt.new_zeros(len(prompt), self.num_nodes).scatter(1, tails, heads)
        leaving = (tails != start).int().argsort(dim=1, stable=True)[:, : self.degree]
        node = heads.gather(1, leaving)
        arms = [node]
        for _ in range(self.path_length - 2):
            node = successor.gather(1, node)
            arms.append(node)
        return torch.stack(arms, 2)

    def check(self, prompt: Int[Tensor, "B P"], answer: Int[Tensor, "B A"]) -> Int[Tensor, " B"]:
        """Return the outcome of each path.

        * `wrong_arm`: the path of a wrong arm. The last token may be the goal, which the prompt gives away.
        * `late`: the first two tokens are right, a later token is wrong.
        * `broken_edge`: a wrong decision, and the nodes are not the path of a wrong arm.
        * `other`: the path does not begin at the start, or contains a token that is not a node.
        """
        _, _, start, goal = self._graph(prompt)
        arms = self._arms(prompt)
        path = answer.flip(1) if self.reverse else answer
        # (B, D): the answer follows this arm up to its last node; it ends with that node or with the goal.
        walks = (path[:, None, 1:-1] == arms[:, :, :-1]).all(2) & (path[:, :1] == start)
        ends = (path[:, -1:] == arms[:, :, -1]) | (path[:, -1:] == goal)
        is_gold = arms[:, :, -1] == goal
        gold = self._answer(start, (arms * is_gold[:, :, None]).sum(1))
        right = (answer == gold).all(1)
        decided = (answer[:, :2] == gold[:, :2]).all(1)
        wrong_arm = (walks & ends & ~is_gold).any(1)
        broken = (path[:, 0] == start[:, 0]) & (answer < self.num_nodes).all(1)
        kinds = [right, wrong_arm, broken & ~decided, decided]
        return first_outcome(kinds, self.outcomes.index("other"))

    def decision_mask(self, batch: Batch) -> Bool[Tensor, "B A"]:
        mask = torch.zeros_like(batch.answer, dtype=torch.bool)
        mask[:, 1] = True
        return mask

    def distract(self, batch: Batch) -> Int[Tensor, "B A"] | None:
        """Return the path of the first wrong arm listed. If reversed, the first token stays the goal."""
        if self.degree == 1 or self.path_length == 2:
            return None
        _, _, start, goal = self._graph(batch.prompt)
        arms = self._arms(batch.prompt)
        wrong = (arms[:, :, -1] != goal).int().argmax(1)
        arm = arms[torch.arange(len(arms), device=arms.device), wrong]
        answer = self._answer(start, arm)
        answer[:, 0] = batch.answer[:, 0]
        return answer

    def fingerprint(self, batch: Batch) -> Int[Tensor, " B"]:
        """Hash the set of edges alone, in any order.

        A graph is held out with all of its goals. If it were held out with one goal, a model that has
        memorised the other arm's answer would fall below chance.
        """
        tails, heads, _, _ = self._graph(batch.prompt)
        return hash_edges(tails, heads, self.num_nodes)

    def text(self, prompt: Int[Tensor, " P"], answer: Int[Tensor, " A"]) -> str:
        tails, heads, start, goal = (x[0].tolist() for x in self._graph(prompt[None]))
        path = answer.tolist()
        path = path[::-1] if self.reverse else path
        return star_text(zip(tails, heads, strict=True), start[0], goal[0], path)

    def parse_all(self, lines: list[str]) -> Batch | None:
        node, edges, steps = "[0-9]{1,9}", self.num_edges, self.path_length - 1
        row = re.compile(
            f"(?:{node},{node}[|]){{{edges - 1}}}{node},{node}/{node},{node}={node}(?:,{node}){{{steps}}}"
        )
        if not all(map(row.fullmatch, lines)):
            return None
        numbers = " ".join(lines).translate(_SEPARATORS)
        nodes = torch.from_numpy(np.fromstring(numbers, dtype=np.int64, sep=" ")).view(len(lines), -1)
        if (nodes >= self.num_nodes).any():
            return None
        listed, start, goal, path = nodes.split([2 * edges, 1, 1, self.path_length], 1)
        pairs = listed.view(len(lines), edges, 2)
        if not self._are_stars(pairs, start, goal, path):
            return None
        return Batch(self._prompt(pairs, start, goal), path.flip(1) if self.reverse else path)

    def _are_stars(
        self,
        pairs: Int[Tensor, "B E 2"],
        start: Int[Tensor, "B 1"],
        goal: Int[Tensor, "B 1"],
        path: Int[Tensor, "B A"],
    ) -> bool:
        """Return True if `_verify` accepts every row."""
        tails, heads = pairs.unbind(2)
        empty, one = start.new_zeros(len(start), self.num_nodes), torch.ones_like(tails)
        leaving, entering = empty.scatter_add(1, tails, one), empty.scatter_add(1, heads, one)
        arms_leave = leaving.gather(1, start) == self.degree
        leaving = leaving.scatter(1, start, 1)
        if (
            not arms_leave.all()
            or entering.gather(1, start).any()
            or (leaving > 1).any()
            or (entering > 1).any()
        ):
            return False
        arms = self._arms(self._prompt(pairs, start, goal))
        inner, last = arms[:, :, :-1].flatten(1), arms[:, :, -1]
        # d arms of l - 1 nodes hold all edges, as no node is entered twice.
        if not leaving.gather(1, inner).all() or leaving.gather(1, last).any():
            return False
        along = (path[:, None, 1:] == arms).all(2).any(1, keepdim=True)
        return bool((along & (path[:, :1] == start) & (path[:, -1:] == goal)).all())

    def parse(self, line: str) -> tuple[list[int], list[int]]:
        edges, start, goal, answer = parse_star(line)
        if len(edges) != self.num_edges or len(answer) != self.path_length:
            raise InputError(
                f"a path of {len(answer)} nodes in {len(edges)} edges; expected {self.path_length} nodes in "
                f"{self.num_edges} edges (task.degree={self.degree}, task.path_length={self.path_length})"
            )
        refuse_outside([*chain.from_iterable(edges), start, goal, *answer], self.num_nodes)
        self._verify(edges, start, goal, answer)
        prompt = self._prompt(torch.tensor([edges]), torch.tensor([[start]]), torch.tensor([[goal]]))[0]
        return prompt.tolist(), answer[::-1] if self.reverse else answer

    def _verify(self, edges: list[tuple[int, int]], start: int, goal: int, answer: list[int]) -> None:
        """Reject graphs that are not a path-star: all later code relies on their shape."""
        parents = {head: tail for tail, head in edges}
        leaves = parents.keys() - {tail for tail, _ in edges}
        tails = [tail for tail, _ in edges if tail != start]

        def path_to(node: int) -> list[int]:
            path = [node]
            while path[-1] in parents and len(path) < self.path_length:
                path.append(parents[path[-1]])
            return path[::-1]

        one_in, one_out = len(parents) == len(edges), len(set(tails)) == len(tails)
        arms = [path_to(leaf) for leaf in leaves]
        whole = len(arms) == self.degree and all(
            len(arm) == self.path_length and arm[0] == start for arm in arms
        )
        if not (one_in and one_out and whole and start not in parents):
            raise InputError(
                f"the edges are not a star around {start}; expected {self.degree} arms of "
                f"{self.path_length} nodes"
            )
        if answer not in arms or answer[-1] != goal:
            wrong = ",".join(map(str, answer))
            raise InputError(f"{wrong} is not the path from {start} to {goal}; correct the answer")

    def drawing(self, prompt: Int[Tensor, " P"]) -> dict[str, Any]:
        tails, heads, start, goal = (x[0].tolist() for x in self._graph(prompt[None]))
        return drawing_of(zip(tails, heads, strict=True), start[0], goal[0])
