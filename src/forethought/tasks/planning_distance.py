"""Two paths that cross in one node: from trivial to path-star by the distance from the fork to the goal."""

import json
import re
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from pydantic import Field
from torch import Tensor

from forethought.errors import InputError
from forethought.tasks.base import Batch, Task
from forethought.tasks.characters import VOCABULARY, Numbers
from forethought.tasks.draw import Draws
from forethought.tasks.graph import drawing_of, first_outcome, hash_edges, take_first
from forethought.validation import validated_dataclass

_NODE = "[0-9]{1,9}"
_EDGES = f"{_NODE},{_NODE}(?:/{_NODE},{_NODE})*"


@validated_dataclass
class PlanningDistance(Task):
    """Path along one of two streams that share one node. Two streams of L = `path_length` = 4 nodes:

        5 → 2 ↘   ↗ 7
                0             the shared node has place m = 2 of 0 … L - 1 in both streams:
        3 → 6 ↗   ↘ 1         planning distance L - 1 - m = 1

        text     {"input": "0,1/5,2/6,0/0,7/3,6/2,0-5,7", "output": "5,2/2,0/0,7", …}
        prompt   0 1 / 5 2 / 6 0 / 0 7 / 3 6 / 2 0 - 5 7 =
        answer                                              5 2 / 2 0 / 0 7      loss on all of these

    The decision is the node after the shared one. In this graph, a candidate is the goal, so that a look-up
    suffices. From planning distance 2 on, a path written from the start must foresee where both branches
    end (chance 1/2). At planning distance 0 nothing forks; at L - 1, the graph is the path-star G(2, L).
    Reversed answers are the mirror image: they require a plan where m > 1.

    As published, a path and its exact reverse are both accepted. What differs: a node is one token. As
    published, `tokens=characters` has one token a digit, and commas:

        prompt   0 , 1 / 5 , 2 / … - 5 , 7 =
        answer                               5 , 2 / 2 , 0 / 0 , 7 end

    From L = 6 on, nodes above 9 take two tokens, so that shorter rows are padded. The decision is the first
    character that tells the two nodes apart.

    Source: Ye et al., "Beyond Autoregression: Discrete Diffusion for Complex Reasoning and Planning"
    (2410.14157), §3 and its code (data/synthetic_graph.py; its shipped test set has L = 6).

    Args:
        path_length: nodes of a stream (L). Nodes are named by 0 … 2L - 1; one name is unused.
        reverse: answer from the goal back to the start.
        tokens: `nodes`, or `characters` (as published).
    """

    path_length: int = Field(default=6, ge=3, le=100)
    reverse: bool = False
    tokens: Literal["nodes", "characters"] = "nodes"

    outcomes: ClassVar = ("right", "wrong_branch", "broken_edge", "other")

    @property
    def num_nodes(self) -> int:
        return 2 * self.path_length

    @property
    def vocabulary(self) -> tuple[str, ...]:
        if self.tokens == "characters":
            return VOCABULARY
        return (*map(str, range(self.num_nodes)), "/", "-", "=", "$")

    @property
    def end(self) -> int | None:
        return VOCABULARY.index("end") if self.tokens == "characters" else None

    @property
    def padded_prompts(self) -> bool:
        return self.tokens == "characters"

    @property
    def num_edges(self) -> int:
        return 2 * (self.path_length - 1)

    @property
    def prompt_length(self) -> int:
        if self.tokens == "characters":
            # Occurrences in the longest prompt: a shared inner node 4, the ends not asked for 1, others 2.
            return Numbers(self.num_nodes).longest([4, *[2] * (self.num_nodes - 4), 1, 1])
        return 3 * self.num_edges + 3

    @property
    def answer_length(self) -> int:
        if self.tokens == "characters":
            return Numbers(self.num_nodes).longest([*[2] * (self.path_length - 2), 1, 1])
        return 3 * (self.path_length - 1) - 1

    @property
    def chance(self) -> float:
        """Accuracy of a policy that follows edges, and takes a random one at a fork without the goal.

        Two of the L places of the shared node have no such fork.
        """
        return (2 + (self.path_length - 2) / 2) / self.path_length

    @property
    def decision_chance(self) -> float:
        return 1 / 2

    def sample(self, count: int, draws: Draws) -> Batch:
        names = draws.permutation(count, self.num_nodes)
        path, other = names.split(self.path_length, 1)
        merge = draws.integers(self.path_length, count, 1)
        other = other.scatter(1, merge, path.gather(1, merge))
        pairs = torch.cat([torch.stack([s[:, :-1], s[:, 1:]], 2) for s in (path, other)], 1)
        order = draws.permutation(count, self.num_edges)
        return self._batch(pairs.gather(1, order[:, :, None].expand_as(pairs)), path)

    def _batch(self, pairs: Int[Tensor, "B E 2"], path: Int[Tensor, "B L"]) -> Batch:
        query = path[:, :: self.path_length - 1]
        answer = self._write(path.flip(1) if self.reverse else path)
        if self.tokens == "characters":
            numbers = torch.cat([pairs.flatten(1), query], 1)
            prompt = Numbers(self.num_nodes).spell(numbers, ",/" * (self.num_edges - 1) + ",-,=")
            prompt = take_first(prompt, prompt == self.dummy)[:, -self.prompt_length :]
            return Batch(prompt, answer[:, : self.answer_length])
        slash, dash, equals = (torch.full_like(path[:, :1], self.num_nodes + i) for i in range(3))
        return Batch(torch.cat([self._join(pairs, slash), dash, query, equals], 1), answer)

    @staticmethod
    def _join(pairs: Int[Tensor, "B S 2"], slash: Int[Tensor, "B 1"]) -> Int[Tensor, "B T"]:
        separators = slash[:, :, None].expand(-1, pairs.shape[1], 1)
        return torch.cat([pairs, separators], 2).flatten(1)[:, :-1]

    def _write(self, written: Int[Tensor, "B L"]) -> Int[Tensor, "B T"]:
        """Return answers of nodes in the order written. T may exceed A if a node occurs twice."""
        steps = torch.stack([written[:, :-1], written[:, 1:]], 2)
        if self.tokens == "characters":
            after = (*",/" * (self.path_length - 2), ",", "end")
            answer = Numbers(self.num_nodes).spell(steps.flatten(1), after)
            return take_first(answer, answer != self.dummy)
        return self._join(steps, torch.full_like(written[:, :1], self.num_nodes))

    def _graph(
        self, prompt: Int[Tensor, "B P"]
    ) -> tuple[Int[Tensor, "B E"], Int[Tensor, "B E"], Int[Tensor, "B 1"], Int[Tensor, "B 1"]]:
        """Return the tails and the heads of the edges in the order listed, the start and the goal."""
        if self.tokens == "characters":
            numbers = Numbers(self.num_nodes).read(prompt, 2 * self.num_edges + 2)
            return numbers[:, 0:-2:2], numbers[:, 1:-2:2], numbers[:, -2:-1], numbers[:, -1:]
        return prompt[:, 0:-4:3], prompt[:, 1:-4:3], prompt[:, -3:-2], prompt[:, -2:-1]

    def _nodes(self, answer: Int[Tensor, "B A"]) -> Int[Tensor, "B L"]:
        """Return the nodes of an answer in the order written: the first one, and the second of each edge."""
        if self.tokens == "characters":
            numbers = Numbers(self.num_nodes).read(answer, self.num_edges)
            return torch.cat([numbers[:, :1], numbers[:, 1::2]], 1)
        return torch.cat([answer[:, :1], answer[:, 1::3]], 1)

    def check(self, prompt: Int[Tensor, "B P"], answer: Int[Tensor, "B A"]) -> Int[Tensor, " B"]:
        """Return the outcome of each path. An answer that begins at the goal is read as a reversed one.

        * `wrong_branch`: at the shared node the other stream was taken, and followed up to its end. The last
          token may be the goal (of a reversed answer the start), which the prompt gives away.
        * `broken_edge`: any other chain of edges from the right end; a step is not an edge of the graph.
        * `other`: not a chain `a b / b c / …` of nodes, or begins neither at the start nor at the goal.
        """
        tails, heads, start, goal = self._graph(prompt)
        written = self._nodes(answer)
        backwards = written[:, :1] == goal
        first, last = torch.where(backwards, goal, start)[:, 0], torch.where(backwards, start, goal)[:, 0]
        tails, heads = torch.where(backwards, heads, tails), torch.where(backwards, tails, heads)
        leaves = written[:, :-1, None] == tails[:, None]
        arrives = written[:, 1:, None] == heads[:, None]
        is_edge = (leaves & arrives).any(2)
        chain = self._write(written)
        answer = F.pad(self.trim(answer), (0, chain.shape[1] - answer.shape[1]), value=self.dummy)
        is_chain = (chain == answer).all(1) & (written < self.num_nodes).all(1) & (written[:, 0] == first)
        ends = written[:, -1] == last
        right = is_edge.all(1) & ends
        follows = is_edge[:, :-1].all(1) & (is_edge[:, -1] | ends)
        kinds = [is_chain & right, is_chain & follows, is_chain]
        return first_outcome(kinds, self.outcomes.index("other"))

    def _place(self, batch: Batch) -> Int[Tensor, " B"]:
        """Return the place of the shared node on the path, in the order written."""
        tails, heads, _, _ = self._graph(batch.prompt)
        ends = torch.cat([tails, heads], 1)
        # The shared node has one or two edges more than its place on the path alone would give it.
        edges = torch.zeros_like(ends[:, :1]).expand(-1, self.num_nodes)
        edges = edges.scatter_add(1, ends, torch.ones_like(ends)).gather(1, self._nodes(batch.answer))
        edges[:, 1:-1] -= 1
        return edges.argmax(1)

    def decision_mask(self, batch: Batch) -> Bool[Tensor, "B A"]:
        """Mark the node after the shared one, unless it is the last or nothing forks there.

        In characters, mark the first one that differs if the answer takes the other branch.
        """
        tails, heads, _, _ = self._graph(batch.prompt)
        tails, heads = (heads, tails) if self.reverse else (tails, heads)
        written, place = self._nodes(batch.answer), self._place(batch)[:, None]
        after = (place + 1).clamp(max=self.path_length - 1)
        branches = (heads * (tails == written.gather(1, place))).sum(1, keepdim=True)
        other = written.scatter(1, after, branches - written.gather(1, after))
        differs = (self._write(written) != self._write(other))[:, : self.answer_length]
        first = differs & (differs.cumsum(1) == 1)
        return first & (place < self.path_length - 2)

    def strata(self, batch: Batch) -> dict[str, Int[Tensor, " B"]]:
        place = self._place(batch)
        return {"planning_distance": place if self.reverse else self.path_length - 1 - place}

    @property
    def strata_sizes(self) -> dict[str, int]:
        return {"planning_distance": self.path_length}

    def fingerprint(self, batch: Batch) -> Int[Tensor, " B"]:
        """Hash the set of edges alone, in any order: a graph is held out with all of its paths."""
        tails, heads, _, _ = self._graph(batch.prompt)
        return hash_edges(tails, heads, self.num_nodes)

    def text(self, prompt: Int[Tensor, " P"], answer: Int[Tensor, " A"]) -> str:
        tails, heads, start, goal = (x[0].tolist() for x in self._graph(prompt[None]))
        path = self._nodes(answer[None])[0].tolist()
        path = path[::-1] if self.reverse else path
        row = {
            "input": f"{_join_text(tails, heads)}-{start[0]},{goal[0]}",
            "output": _join_text(path, path[1:]),
            "reversed": _join_text(path[::-1], path[-2::-1]),
        }
        return json.dumps(row)

    def parse(self, line: str) -> tuple[list[int], list[int]]:
        try:
            row = json.loads(line)
            found = re.fullmatch(f"({_EDGES})-({_NODE},{_NODE})", row["input"])
            if not found or not re.fullmatch(_EDGES, row["output"]):
                raise ValueError
        except (ValueError, TypeError, KeyError, RecursionError):
            raise InputError(
                f'{line[:60]!r} is malformed; expected {{"input": "a,b/c,d/…-start,goal", '
                f'"output": "start,v1/v1,v2/…,goal"}}'
            ) from None
        edges, [(start, goal)], steps = map(_read_edges, (found[1], found[2], row["output"]))
        if len(edges) != self.num_edges or len(steps) != self.path_length - 1:
            raise InputError(
                f"a path of {len(steps)} edges in {len(edges)} edges; expected {self.path_length - 1} in "
                f"{self.num_edges} (task.path_length={self.path_length})"
            )
        if outside := [node for edge in edges for node in edge if node >= self.num_nodes]:
            raise InputError(
                f"node {outside[0]} is out of range for task.path_length={self.path_length}; "
                f"expected 0…{self.num_nodes - 1}"
            )
        path = [steps[0][0], *(head for _, head in steps)]
        chained = all(edge == (path[i], path[i + 1]) and edge in edges for i, edge in enumerate(steps))
        if not chained or (path[0], path[-1]) != (start, goal) or len(set(path)) != len(path):
            raise InputError(f"{row['output']} is not the path from {start} to {goal}; correct the answer")
        if not self._merges(path, set(edges) - set(steps)):
            raise InputError(
                f"the edges are not two streams of {self.path_length} nodes that share one node, at the "
                "same place in both"
            )
        batch = self._batch(torch.tensor([edges]), torch.tensor([path]))
        prompt, answer = batch.prompt[0], batch.answer[0]
        return prompt[prompt != self.dummy].tolist(), answer[answer != self.dummy].tolist()

    def _merges(self, path: list[int], edges: set[tuple[int, int]]) -> bool:
        """Return True if the edges are a second stream that shares one node with the path."""
        successor = dict(edges)
        sources = successor.keys() - successor.values()
        if len(edges) != self.path_length - 1 or len(successor) != len(edges) or len(sources) != 1:
            return False
        other = [*sources]
        while other[-1] in successor and len(other) <= self.path_length:
            other.append(successor[other[-1]])
        places = [a == b for a, b in zip(path, other, strict=False)]
        return len(other) == self.path_length and sum(places) == len(set(path) & set(other)) == 1

    def drawing(self, prompt: Int[Tensor, " P"]) -> dict[str, Any]:
        tails, heads, start, goal = (x[0].tolist() for x in self._graph(prompt[None]))
        return drawing_of(zip(tails, heads, strict=True), start[0], goal[0])


def _join_text(tails: list[int], heads: list[int]) -> str:
    return "/".join(f"{tail},{head}" for tail, head in zip(tails, heads, strict=False))


def _read_edges(text: str) -> list[tuple[int, int]]:
    return [(int(tail), int(head)) for tail, head in (edge.split(",") for edge in text.split("/"))]
