"""Hops along a permutation whose edges are listed in random order: k look-ups for one answer token."""

import re
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Int
from pydantic import Field
from torch import Tensor

from forethought.errors import Impossible, InputError
from forethought.tasks.base import Batch, Task
from forethought.tasks.draw import Draws
from forethought.tasks.graph import drawing_of, first_outcome, hash_edges, refuse_outside, star_text
from forethought.validation import validated_dataclass

_EDGE = "[0-9]{1,9},[0-9]{1,9}"
_LINE = re.compile(rf"({_EDGE}(?:\|{_EDGE})*)/({_EDGE})=([0-9]{{1,9}})")


@validated_dataclass
class PermutationHops(Task):
    """Node that is k hops after a given node, on a cycle through all N nodes. N = 6:

        cycle    4 → 0 → 3 → 5 → 1 → 2 → 4        node 4, k = 3
        text     3,5|4,0|2,4|5,1|0,3|1,2/4,3=5
        prompt   3 5 4 0 2 4 5 1 0 3 1 2 +3 4
        answer                                5      the decision, unless k is 1 or N - 1

    The hops are uniform over 1 … `max_hops`, and divide the rows. The answer is one token, so that a model
    has no token to write a hop down: it must take all of them in one forward pass.

    A graph is held out with all its nodes and hops.

    What differs from the source: one query a graph, where the source asks several in a row; N is fixed,
    where the source mixes all sizes up to N; a name is one token, where a variant has names of several.

    Source: Allen-Zhu, "Physics of Language Models: Part 4.1" (2512.17351), task Depo, of one cycle; read from
    summaries and third-party code.

    Args:
        num_nodes: nodes of the cycle (N).
        max_hops: the most hops asked for (K).

    Raises:
        Impossible: so many hops lead around the cycle, to the node itself or beyond it.
    """

    num_nodes: int = Field(default=10, ge=3, le=1000)
    max_hops: int = Field(default=4, ge=1)

    outcomes: ClassVar = ("right", "short", "far", "other")

    def __post_init__(self) -> None:
        if self.max_hops >= self.num_nodes:
            raise Impossible(
                f"task.max_hops={self.max_hops}: leads around a cycle of task.num_nodes={self.num_nodes}; "
                f"use at most {self.num_nodes - 1}"
            )

    @property
    def vocabulary(self) -> tuple[str, ...]:
        hops = (f"+{k}" for k in range(1, self.max_hops + 1))
        return (*map(str, range(self.num_nodes)), *hops, "$")

    @property
    def prompt_length(self) -> int:
        return 2 * self.num_nodes + 2

    @property
    def answer_length(self) -> int:
        return 1

    @property
    def _decisions(self) -> int:
        """The number of hop counts, from 2 to N - 2, that the two edges of a node leave open."""
        return max(0, min(self.max_hops, self.num_nodes - 2) - 1) if self.num_nodes > 4 else 0

    @property
    def chance(self) -> float:
        """Accuracy of a policy that looks up the two edges of the node, and joins no edges.

        These tell the node that is one hop on, and the one that is N - 1 hops on. Otherwise, the policy picks
        one of the N - 3 nodes left.
        """
        return 1 - self._decisions / self.max_hops * (1 - self.decision_chance)

    @property
    def decision_chance(self) -> float:
        return 1 / (self.num_nodes - 3) if self._decisions else 1.0

    @property
    def needs_plan(self) -> bool:
        return self.decision_chance < 1

    def sample(self, count: int, draws: Draws) -> Batch:
        cycle = draws.permutation(count, self.num_nodes)
        hops = 1 + draws.integers(self.max_hops, count, 1)
        order = draws.permutation(count, self.num_nodes)
        ends = (nodes.gather(1, order) for nodes in (cycle, cycle.roll(-1, 1)))
        edges = torch.stack([*ends], 2).flatten(1)
        prompt = torch.cat([edges, self.num_nodes - 1 + hops, cycle[:, :1]], 1)
        return Batch(prompt, cycle.gather(1, hops))

    def _query(self, prompt: Int[Tensor, "B P"]) -> tuple[Int[Tensor, "B 1"], Int[Tensor, "B 1"]]:
        """Return the node and the hops."""
        return prompt[:, -1:], prompt[:, -2:-1] - (self.num_nodes - 1)

    def _cycle(self, prompt: Int[Tensor, "B P"]) -> Int[Tensor, "B N"]:
        """Return the nodes in the order of the cycle, from the node that is asked about."""
        successor = torch.zeros_like(prompt[:, : self.num_nodes])
        successor = successor.scatter(1, prompt[:, :-2:2], prompt[:, 1:-2:2])
        nodes = [prompt[:, -1:]]
        while len(nodes) < self.num_nodes:
            nodes.append(successor.gather(1, nodes[-1]))
        return torch.cat(nodes, 1)

    def check(self, prompt: Int[Tensor, "B P"], answer: Int[Tensor, "B 1"]) -> Int[Tensor, " B"]:
        """Return the outcome of each answer.

        * `short`: a node that comes before the right one, or the given node itself.
        * `far`: a node that comes after it.
        * `other`: not a node.
        """
        found = self._cycle(prompt) == answer
        place, hops = found.int().argmax(1), self._query(prompt)[1][:, 0]
        is_node = found.any(1)
        kinds = [is_node & (place == hops), is_node & (place < hops), is_node]
        return first_outcome(kinds, self.outcomes.index("other"))

    def decision_mask(self, batch: Batch) -> Bool[Tensor, "B 1"]:
        """Mark the rows that the two edges of the node leave open."""
        hops = self._query(batch.prompt)[1]
        return (hops > 1) & (hops < self.num_nodes - 1) & (self.num_nodes > 4)

    def strata(self, batch: Batch) -> dict[str, Int[Tensor, " B"]]:
        return {"hops": self._query(batch.prompt)[1][:, 0]}

    @property
    def strata_sizes(self) -> dict[str, int]:
        return {"hops": self.max_hops + 1}

    def fingerprint(self, batch: Batch) -> Int[Tensor, " B"]:
        """Hash the set of edges alone, in any order: a graph is held out with all its queries."""
        return hash_edges(batch.prompt[:, :-2:2], batch.prompt[:, 1:-2:2], self.num_nodes)

    def _edges(self, prompt: Int[Tensor, " P"]) -> list[tuple[int, int]]:
        return [*zip(prompt[:-2:2].tolist(), prompt[1:-2:2].tolist(), strict=True)]

    def text(self, prompt: Int[Tensor, " P"], answer: Int[Tensor, " 1"]) -> str:
        """Return the edges, the node, the hops and the answer: `a,b|c,d|…/node,hops=answer`."""
        node, hops = (query.item() for query in self._query(prompt[None]))
        return star_text(self._edges(prompt), int(node), int(hops), answer.tolist())

    def parse(self, line: str) -> tuple[list[int], list[int]]:
        form = _LINE.fullmatch(line)
        if form is None:
            raise InputError(f"{line[:40]!r} is malformed; expected a,b|c,d|…/node,hops=answer")
        edges = [int(node) for edge in form[1].split("|") for node in edge.split(",")]
        node, hops, answer = map(int, [*form[2].split(","), form[3]])
        refuse_outside([*edges, node, answer], self.num_nodes)
        if not 1 <= hops <= self.max_hops:
            raise InputError(f"{hops} hops; expected 1…{self.max_hops} (task.max_hops={self.max_hops})")
        n = self.num_nodes
        prompt = [*edges, n - 1 + hops, node]
        every = [*range(n)]
        is_permutation = sorted(edges[::2]) == every == sorted(edges[1::2])
        if not is_permutation or sorted(self._cycle(torch.tensor([prompt]))[0].tolist()) != every:
            raise InputError(f"the edges are not one cycle through all nodes 0…{n - 1} (task.num_nodes={n})")
        if self.check(torch.tensor([prompt]), torch.tensor([[answer]])).item():
            raise InputError(f"{answer} is not {hops} hops after {node}; correct the answer")
        return prompt, [answer]

    def drawing(self, prompt: Int[Tensor, " P"]) -> dict[str, Any]:
        node, hops = self._query(prompt[None])
        goal = self._cycle(prompt[None]).gather(1, hops)
        return drawing_of(self._edges(prompt), int(node.item()), int(goal.item()))
