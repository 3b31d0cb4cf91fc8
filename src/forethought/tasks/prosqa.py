"""ProsQA in symbols: which of two nodes does the root of a DAG reach?"""

import re
from functools import lru_cache
from itertools import pairwise
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from pydantic import Field
from torch import Tensor

from forethought.errors import Impossible, InputError
from forethought.tasks.base import Batch, Task
from forethought.tasks.draw import Draws
from forethought.tasks.graph import (
    WORD_BITS,
    drawing_of,
    first_outcome,
    hash_edges,
    pick_weighted,
    refuse_outside,
)
from forethought.validation import validated_dataclass

_NODE = "[0-9]{1,9}"
_LINE = f"({_NODE},{_NODE}(?:[|]{_NODE},{_NODE})*)/({_NODE}),({_NODE}),({_NODE})=({_NODE}(?:,{_NODE})*)"

_CHANCE_ROWS = 5, 1000
"""Batches and their rows from which `chance` is estimated. Its standard error is below 0.003."""


@validated_dataclass
class ProsQA(Task):
    """Choice between two nodes of a DAG: the root reaches one of them, and not the other.

    The prompt lists the edges in random order, the root, and the candidates in random order. N = 8:

        graph    2 → 4 → 6              the root 2 reaches 6 in 2 steps
                   ↘ ↓
                     1
                 7 → 3 → 5 → 0          so does another root, 7, with 5
        text     7,3|4,1|3,5|4,6|5,0|2,4|2,1/2,6,5=6
        prompt   $ $ $ 7 3 | 4 1 | 3 5 | 4 6 | 5 0 | 2 4 | 2 1 / 2 6 5 =
        answer                                                           6            6 or 5? (chance 1/2)
        path                                                             4 6 end      4 or 1?

    With `steps=path`, a random shortest path leads to the choice, as in a chain of thought. As published,
    only the choice is judged, the last node before `end`. A step is a decision if some child of the node
    before leads no nearer to the choice, and the choice is not a child. All children that lead nearer count
    as right decisions.

    The graph: two roots get chains of `min_steps` nodes. Each further node gets one or two parents among the
    nodes before it, a node at depth k with weight 3 k + 2. With probabilities .35, .35 and .3, it descends
    from one root only, from the other only, or from any. The number of steps is drawn uniformly from
    `min_steps` … `max_steps`. Each candidate is a random node that one root alone reaches, as many steps
    away, or the nearest smaller number that this root has. Up to a swap of the roots, the candidates have
    one law, so that nothing but a path from the root tells them apart. With `distractor=twin`, the other
    root has a copy of the whole graph of the asked one, and the other candidate is the copy of the right one.

    Gains of continuous thoughts must always stand beside those of `pauses`. Under the same curriculum, as
    many pause tokens reach 96.6 % where continuous thoughts reach 97.0 % (and a written chain of thought,
    83.0 %): the curriculum helps, not the thoughts.

    Source: Hao et al., "Training Large Language Models to Reason in a Continuous Latent Space" (2412.06769):
    sentences such as "every lempus is a scrompus", about 36 edges, 3 to 6 steps, by a pretrained GPT-2. Read
    from digests: the law of the graphs is ours. Pauses: bmarti44/coconut-curriculum-checkpoints, one seed.
    The twin: seyedparsa/lyot-star2x5, there of a star with two arms.

    Args:
        num_nodes: number of nodes N, and of their names. A twin leaves the last one of an odd number unused.
        min_steps: fewest edges from the root to the right candidate.
        max_steps: most edges.
        distractor: `random`, or `twin`: two equal graphs.
        steps: what is written before the choice: `none`, or the `path` that leads to it.
        pauses: pause tokens between the prompt and the answer.

    Raises:
        Impossible: `max_steps` is below `min_steps`, or `num_nodes` is too small for both chains.
    """

    num_nodes: int = Field(default=20, ge=6, le=1000)
    min_steps: int = Field(default=3, ge=2, le=100)
    max_steps: int = Field(default=6, ge=2, le=100)
    distractor: Literal["random", "twin"] = "random"
    steps: Literal["none", "path"] = "none"
    pauses: int = Field(default=0, ge=0, le=1000)

    outcomes: ClassVar = ("right", "wrong_choice", "other")

    def __post_init__(self) -> None:
        if self.max_steps < self.min_steps:
            raise Impossible(
                f"task.max_steps={self.max_steps}: out of range; use at least task.min_steps={self.min_steps}"
            )
        if self.num_nodes < 2 + 2 * self.min_steps:
            raise Impossible(
                f"task.num_nodes={self.num_nodes}: two roots with chains of task.min_steps={self.min_steps} "
                f"nodes are {2 + 2 * self.min_steps} nodes; expected at least {2 + 2 * self.min_steps}"
            )

    @property
    def vocabulary(self) -> tuple[str, ...]:
        marks = (*(["pause"] if self.pauses else []), *(["end"] if self.steps == "path" else []))
        return (*map(str, range(self.num_nodes)), "|", "/", "=", *marks, "$")

    @property
    def end(self) -> int | None:
        return self.dummy - 1 if self.steps == "path" else None

    @property
    def padded_prompts(self) -> bool:
        return True

    @property
    def num_edges(self) -> int:
        """Edges of the largest graph: one to each node of the two chains, two to each further node."""
        nodes = self.num_nodes - (self.num_nodes % 2 if self._is_twin else 0)
        return 2 * (nodes - 2) - 2 * self.min_steps

    @property
    def _is_twin(self) -> bool:
        return self.distractor == "twin"

    @property
    def prompt_length(self) -> int:
        return 3 * self.num_edges + 4 + self.pauses

    @property
    def answer_length(self) -> int:
        return 1 if self.steps == "none" else self.max_steps + 1

    @property
    def chance(self) -> float:
        """Accuracy of a guess, which is 1/2; with a path, of a random walk from the root along edges.

        The walk takes a candidate where it sees one, and guesses where it ends. Its accuracy is estimated
        from rows with a fixed seed.
        """
        return 1 / 2 if self.steps == "none" else _chances(*self._law)[0]

    @property
    def decision_chance(self) -> float:
        return 1 / 2 if self.steps == "none" else _chances(*self._law)[1]

    @property
    def _law(self) -> tuple[int, int, int, Literal["random", "twin"]]:
        return self.num_nodes, self.min_steps, self.max_steps, self.distractor

    def sample(self, count: int, draws: Draws) -> Batch:
        tails, heads, is_edge, query = self._draw_graph(count, draws)
        names = draws.permutation(count, self.num_nodes)
        # Edges in random order, after the slots that hold none.
        order = draws.permutation(count, self.num_edges)
        order = order.gather(1, is_edge.gather(1, order).int().argsort(dim=1, stable=True))
        is_edge = is_edge.gather(1, order)
        tails, heads = (
            names.gather(1, ends.gather(1, order)).where(is_edge, self.dummy) for ends in (tails, heads)
        )
        prompt = self._prompt(tails, heads, names.gather(1, query))
        return Batch(prompt, self._answer(prompt, draws))

    def _draw_graph(
        self, count: int, draws: Draws
    ) -> tuple[Int[Tensor, "B E"], Int[Tensor, "B E"], Bool[Tensor, "B E"], Int[Tensor, "B 3"]]:
        """Draw the tails and heads of slots for edges, which slots hold one, and root and candidates."""
        roots = 1 if self._is_twin else 2
        nodes = self.num_nodes // 2 if self._is_twin else self.num_nodes
        planted = roots * (1 + self.min_steps)
        node = torch.arange(nodes, device=draws.device)
        # Of each node, the edges from the nearest root, and the roots that reach it, as bits 1 and 2.
        depth = (node // roots * (node < planted)).repeat(count, 1)
        reached = ((1 + node % roots) * (node < planted)).repeat(count, 1)
        heads = node[roots:planted].repeat(count, 1)
        listed = [(heads - roots, heads, torch.ones_like(heads, dtype=torch.bool))]
        words = draws.integers(1 << WORD_BITS, count, nodes - planted, 4)
        for new in range(planted, nodes):
            kind, number, pair = words[:, new - planted].split([1, 1, 2], 1)
            kind = kind * 20 >> WORD_BITS
            barred = torch.where(kind < 14, 1 + (kind < 7).long(), 0) * (roots - 1)
            weights = (3 * depth + 2) * ((node < new) & (reached & barred == 0))
            places, is_edge, is_parent = pick_weighted(weights, pair, 1 + (number >> WORD_BITS - 1))
            listed.append((places, torch.full_like(places, new), is_edge))
            nearest = depth.masked_fill(~is_parent, nodes).amin(1, keepdim=True)
            bits = [(reached & bit).where(is_parent, 0).amax(1, keepdim=True) for bit in (1, 2)]
            depth, reached = depth.where(node != new, nearest + 1), reached.where(node != new, sum(bits))
        tails, heads, is_edge = (torch.cat(columns, 1) for columns in zip(*listed, strict=True))

        steps = self.min_steps + draws.integers(self.max_steps - self.min_steps + 1, count, 1)
        asked, *words = draws.integers(1 << WORD_BITS, count, 3).split(1, 1)
        candidates = []
        for bit, word in zip(range(1, 1 + roots), words, strict=False):
            fits = depth.where((reached == bit) & (depth <= steps), 0)
            farthest = (fits == fits.amax(1, keepdim=True)).long()
            candidates.append(pick_weighted(farthest, word, torch.ones_like(word))[0])
        if self._is_twin:
            tails, heads = (torch.cat([ends, ends + nodes], 1) for ends in (tails, heads))
            is_edge = torch.cat([is_edge, is_edge], 1)
            candidates.append(candidates[0] + nodes)
        right, wrong = candidates
        first = asked >> WORD_BITS - 1 == 0
        query = torch.cat([torch.zeros_like(right), right.where(first, wrong), wrong.where(first, right)], 1)
        return tails, heads, is_edge, query

    def _prompt(
        self, tails: Int[Tensor, "B E"], heads: Int[Tensor, "B E"], query: Int[Tensor, "B 3"]
    ) -> Int[Tensor, "B P"]:
        bar, slash, equals = (torch.full_like(query[:, :1], self.num_nodes + mark) for mark in range(3))
        bars = bar.where(tails != self.dummy, self.dummy)
        listed = torch.stack([tails, heads, bars], 2).flatten(1)[:, :-1]
        prompt = torch.cat([listed, slash, query, equals], 1)
        return F.pad(prompt, (0, self.pauses), value=self.num_nodes + 3)

    def _graph(
        self, prompt: Int[Tensor, "B P"]
    ) -> tuple[Int[Tensor, "B E"], Int[Tensor, "B E"], Int[Tensor, "B 3"]]:
        """Return the tails and the heads of the edges (padding first), and the root and the candidates."""
        width = 3 * self.num_edges
        return prompt[:, 0:width:3], prompt[:, 1:width:3], prompt[:, width : width + 3]

    def _distances(
        self, prompt: Int[Tensor, "B P"]
    ) -> tuple[Int[Tensor, "B 1"], Int[Tensor, "B 1"], Int[Tensor, "B V"]]:
        """Return the right and the wrong candidate, and the edges from each token to the right one.

        A token from which no path of at most `max_steps` edges leads there has `max_steps` + 1.
        """
        tails, heads, query = self._graph(prompt)
        distances = []
        for target in query[:, 1:].split(1, 1):
            reaches = torch.zeros_like(target).repeat(1, self.dummy + 1).scatter(1, target, 1)
            distance = 1 - reaches
            for _ in range(self.max_steps):
                reaches = reaches.scatter_add(1, tails, reaches.gather(1, heads)).clamp(max=1)
                distance = distance + (1 - reaches)
            distances.append(distance)
        one, other = distances
        is_first = one.gather(1, query[:, :1]) <= self.max_steps
        x, y = query[:, 1:2], query[:, 2:]
        return x.where(is_first, y), y.where(is_first, x), one.where(is_first, other)

    def _answer(self, prompt: Int[Tensor, "B P"], draws: Draws) -> Int[Tensor, "B A"]:
        right, _, distance = self._distances(prompt)
        if self.steps == "none":
            return right
        tails, heads, query = self._graph(prompt)
        node, path = query[:, :1], []
        for _ in range(self.max_steps):
            nearer = (tails == node) & (distance.gather(1, heads) < distance.gather(1, node))
            rank = draws.below(nearer.sum(1, keepdim=True), len(prompt), 1)
            place = (nearer.cumsum(1) > rank).int().argmax(1, keepdim=True)
            node = heads.gather(1, place).where(nearer.any(1, keepdim=True), self.dummy)
            path.append(node)
        nodes = F.pad(torch.cat(path, 1), (0, 1), value=self.dummy)
        return nodes.scatter(1, (nodes != self.dummy).sum(1, keepdim=True), self.dummy - 1)

    def check(self, prompt: Int[Tensor, "B P"], answer: Int[Tensor, "B A"]) -> Int[Tensor, " B"]:
        """Return the outcome of each choice. `wrong_choice`: the candidate that cannot be reached."""
        right, wrong, _ = self._distances(prompt)
        choice = answer[:, :1]
        if self.end is not None:
            is_end = answer == self.end
            place = is_end.int().argmax(1, keepdim=True) - 1
            choice = answer.gather(1, place.clamp(min=0)).where(place >= 0, self.dummy)
        kinds = [(choice == right)[:, 0], (choice == wrong)[:, 0]]
        return first_outcome(kinds, self.outcomes.index("other"))

    def _steps(self, batch: Batch) -> tuple[Bool[Tensor, "B A E"], Bool[Tensor, "B A E"]]:
        """Return which edges leave the node before each answer token, and which of them lead nearer."""
        tails, heads, query = self._graph(batch.prompt)
        _, _, distance = self._distances(batch.prompt)
        before = torch.cat([query[:, :1], batch.answer[:, :-1]], 1)
        before = before.where(batch.answer < self.num_nodes, -1)
        leaves = tails[:, None] == before[:, :, None]
        here = distance.gather(1, before.clamp(min=0))
        return leaves, leaves & (distance.gather(1, heads)[:, None] < here[:, :, None])

    def decision_mask(self, batch: Batch) -> Bool[Tensor, "B A"]:
        if self.steps == "none":
            return torch.ones_like(batch.answer, dtype=torch.bool)
        leaves, nearer = self._steps(batch)
        right, _, _ = self._distances(batch.prompt)
        return (leaves & ~nearer).any(2) & (batch.answer != right)

    def accepted(self, batch: Batch) -> Bool[Tensor, "B A V"] | None:
        """Return all children that are nearer to the choice; for `end` and padding, the answer's token."""
        if self.steps == "none":
            return None
        _, nearer = self._steps(batch)
        _, heads, _ = self._graph(batch.prompt)
        answer = F.one_hot(batch.answer, self.dummy + 1)
        children = torch.zeros_like(answer).scatter_add(2, heads[:, None].expand(nearer.shape), nearer.long())
        return torch.where(children.any(2, keepdim=True), children, answer) > 0

    def strata(self, batch: Batch) -> dict[str, Int[Tensor, " B"]]:
        """Return the edges from the root to the right candidate."""
        _, _, query = self._graph(batch.prompt)
        return {"steps": self._distances(batch.prompt)[2].gather(1, query[:, :1])[:, 0]}

    @property
    def strata_sizes(self) -> dict[str, int]:
        return {"steps": self.max_steps + 1}

    def fingerprint(self, batch: Batch) -> Int[Tensor, " B"]:
        """Hash the set of edges alone, in any order: a graph is held out with all that is asked about it."""
        tails, heads, _ = self._graph(batch.prompt)
        return hash_edges(tails, heads, self.dummy + 1)

    def _edges(self, prompt: Int[Tensor, " P"]) -> tuple[list[tuple[int, int]], list[int]]:
        tails, heads, query = (x[0].tolist() for x in self._graph(prompt[None]))
        return [pair for pair in zip(tails, heads, strict=True) if self.dummy not in pair], query

    def text(self, prompt: Int[Tensor, " P"], answer: Int[Tensor, " A"]) -> str:
        edges, query = self._edges(prompt)
        listed = "|".join(f"{tail},{head}" for tail, head in edges)
        path = answer[answer < self.num_nodes].tolist()
        return f"{listed}/{','.join(map(str, query))}={','.join(map(str, path))}"

    def parse(self, line: str) -> tuple[list[int], list[int]]:
        """Return the token ids of a line. The graph need not be one that `sample` draws."""
        if not (found := re.fullmatch(_LINE, line)):
            raise InputError(
                f"{line[:40]!r} is malformed; expected a,b|c,d|…/root,x,y=choice, or with task.steps=path "
                "=v1,v2,…,choice"
            )
        edges = [(int(a), int(b)) for a, b in (edge.split(",") for edge in found[1].split("|"))]
        query, path = [int(found[i]) for i in (2, 3, 4)], [int(node) for node in found[5].split(",")]
        refuse_outside([*(node for edge in edges for node in edge), *query, *path], self.num_nodes)
        if len(edges) > self.num_edges or len({*edges}) < len(edges) or len({*query}) < 3:
            raise InputError(
                f"{len(edges)} edges, root and candidates {query}; expected at most {self.num_edges} edges "
                "and three nodes, and none of them twice"
            )
        missing = [[self.dummy] * 2] * (self.num_edges - len(edges))
        tails, heads = torch.tensor([*missing, *edges]).T[:, None]
        prompt = self._prompt(tails, heads, torch.tensor([query]))
        right, _, distance = self._distances(prompt)
        known = self.steps == "none" or all(step in edges for step in pairwise([query[0], *path]))
        fits = len(path) <= (1 if self.steps == "none" else self.max_steps)
        if distance[0, query[0]] > self.max_steps or path[-1] != right or not known or not fits:
            raise InputError(
                f"{found[5]} is not the candidate that {query[0]} reaches in at most {self.max_steps} steps "
                f"(task.max_steps), as task.steps={self.steps} has it; correct the answer"
            )
        tokens = prompt[0].tolist()
        closing = [] if self.end is None else [self.end]
        return tokens[3 * len(missing) :], [*path, *closing]

    def drawing(self, prompt: Int[Tensor, " P"]) -> dict[str, Any]:
        """Return the graph, with the right candidate as the goal."""
        edges, query = self._edges(prompt)
        return drawing_of(edges, query[0], int(self._distances(prompt[None])[0]))


@lru_cache(maxsize=16)
def _chances(
    num_nodes: int, min_steps: int, max_steps: int, distractor: Literal["random", "twin"]
) -> tuple[float, float]:
    """Return the accuracy of the random walk of `ProsQA.chance`, of choices and on decisions."""
    task = ProsQA(
        num_nodes=num_nodes, min_steps=min_steps, max_steps=max_steps, distractor=distractor, steps="path"
    )
    draws, arrivals, decisions = Draws(0, "prosqa", "chance"), list[Tensor](), list[Tensor]()
    batches, rows = _CHANCE_ROWS
    for _ in range(batches):
        batch = task.sample(rows, draws)
        tails, heads, query = task._graph(batch.prompt)
        distance = task._distances(batch.prompt)[2]
        sees = (distance == 1).double()
        children = torch.zeros_like(sees).scatter_add(1, tails, torch.ones_like(tails).double())
        arrives = sees
        for _ in range(max_steps - 1):
            total = torch.zeros_like(sees).scatter_add(1, tails, arrives.gather(1, heads))
            arrives = sees.where(sees == 1, total / children.clamp(min=1))
        arrivals.append(arrives.gather(1, query[:, :1]))
        leaves, nearer = task._steps(batch)
        decides = task.decision_mask(batch)
        decisions.append((nearer.sum(2) / leaves.sum(2))[decides])
    return (1 + torch.cat(arrivals).mean().item()) / 2, torch.cat(decisions).double().mean().item()
