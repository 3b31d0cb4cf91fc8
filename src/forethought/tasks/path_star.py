"""The path-star graph G(d, l): the smallest task on which next-token prediction fails to plan."""

import math
import re
from collections import defaultdict
from itertools import chain, product
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
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
    take_first,
)
from forethought.tasks.graph_prompt import NONE, GraphPrompt, graph_prompt
from forethought.tasks.star_shape import are_stars, point_outwards, verify_star
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

    With a scratchpad, the answer to the same graph begins with notes, from which each next token follows:

        reversed_path    8 2 5 = 5 2 8              what `reverse` answers, before the path
        breadth_first    2 9 8 3 = 5 2 8            the arms side by side, as listed, level by level

    The training graphs alone are changed by `query`, `structured_batches`, `backward_share` and `easy_mix`.

    Source: Bachmann & Nagarajan, "The Pitfalls of Next-Token Prediction", ICML 2024, §4 and App. A. Mixed
    sizes: a public fork of their code (dvruette/Next-Token-Failures). `waypoint`, `structured_batches` and
    scratchpads: Frydenlund (2503.10542) and its generator, read from digests. `by_role` and
    `backward_share`: Brinkmann et al. (2402.11917), who reach 99.7 % on trees with both. `easy_mix`:
    Prakash & Buvanesh (2510.03971), for reinforcement of a language model on 10 × 10 beside 5 × 5.

    Args:
        degree: number of arms d.
        path_length: nodes on an arm, start included (l).
        min_degree: the fewest arms, for graphs of mixed sizes; None: always `degree`.
        min_path_length: the fewest nodes on an arm, for graphs of mixed sizes; None: always `path_length`.
            All arms of a graph are equally long. Answers of mixed sizes are closed by a token.
        num_nodes: number N of node names to draw from, at least d (l - 1) + 1; None: exactly that many.
        reverse: answer from the goal back to the start; a look-up then predicts every token.
        scratchpad: `none`, `reversed_path` or `breadth_first`. Only the path after it is checked.
        edge_order: `shuffled` as published; `by_arm` lists arm after arm from the start outwards, in
            the order of their first node's name; `arms_permuted` puts the arms into random order.
        flip_edges: list an edge in either direction at random: the graph is then undirected.
        edge_tokens: `pairs` of node tokens as published, or `joined`: one token an edge, of N² tokens.
        node_ids: `shared` by all places of a node, or `by_role`: another token as the head of an edge and
            on the path after the start.
        query_position: `last` as published (`edges/start,goal=`) or `first` (`/start,goal` then edges).
        query: what is asked for in training: the `goal`, or a `waypoint`, any node of the gold arm.
        structured_batches: ask for each goal of a training graph in turn, in one batch.
        backward_share: share of training graphs that list the edges at the arms' ends first, and those
            of the start last.
        easy_mix: share of training graphs of the smallest size. All others, and all held-out ones, then
            have the largest. None: all sizes are equally likely.

    Raises:
        Impossible: `num_nodes` is too small for the graph, or the graph has more than 10,000 nodes; a
            smallest size is above the largest; `edge_tokens` is `joined` with more than 100 nodes or
            with `node_ids` `by_role`.
    """

    degree: int = Field(default=2, ge=1, le=1000)
    path_length: int = Field(default=4, ge=2, le=1000)
    # None never outlives the constructor, so that the type is that of all later readers.
    min_degree: Annotated[int, Field(ge=1), OR_NONE] = None  # type: ignore[assignment]
    min_path_length: Annotated[int, Field(ge=2), OR_NONE] = None  # type: ignore[assignment]
    num_nodes: Annotated[int, Field(ge=1, le=_MOST_NODES), OR_NONE] = None  # type: ignore[assignment]
    reverse: bool = False
    scratchpad: Literal["none", "reversed_path", "breadth_first"] = "none"
    edge_order: Literal["shuffled", "by_arm", "arms_permuted"] = "shuffled"
    flip_edges: bool = False
    edge_tokens: Literal["pairs", "joined"] = "pairs"
    node_ids: Literal["shared", "by_role"] = "shared"
    query_position: Literal["last", "first"] = "last"
    query: Literal["goal", "waypoint"] = "goal"
    structured_batches: bool = False
    backward_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    easy_mix: Annotated[float, Field(ge=0, le=1)] | None = None

    outcomes: ClassVar[tuple[str, ...]] = ("right", "wrong_arm", "broken_edge", "late", "other")
    following: ClassVar[str | None] = "wrong_arm"

    def __post_init__(self) -> None:
        for key in ("degree", "path_length"):
            least, most = getattr(self, f"min_{key}"), getattr(self, key)
            if least is None:
                setattr(self, f"min_{key}", most)
            elif least > most:
                raise Impossible(f"task.min_{key}={least}: expected at most task.{key}={most}, or null")
        if self.easy_mix is not None and not self._is_mixed:
            raise Impossible(
                f"task.easy_mix={self.easy_mix}: all graphs have one size; set task.min_degree or "
                "task.min_path_length to that of the easy ones, or task.easy_mix=null"
            )
        needed = self.num_edges + 1
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
        if self.edge_tokens == "joined" and self.num_nodes**2 > _MOST_NODES:
            raise Impossible(
                f"task.edge_tokens=joined: {self.num_nodes} nodes have {self.num_nodes**2} edge tokens; "
                f"expected task.num_nodes up to {math.isqrt(_MOST_NODES)}, or pairs"
            )
        if self.edge_tokens == "joined" and self.node_ids == "by_role":
            raise Impossible(
                "task.node_ids=by_role: with task.edge_tokens=joined, edges have no node tokens; expected "
                "shared, or task.edge_tokens=pairs"
            )

    @property
    def _is_mixed(self) -> bool:
        return (self.min_degree, self.min_path_length) != (self.degree, self.path_length)

    @property
    def _form(self) -> GraphPrompt:
        return graph_prompt(
            self.num_nodes,
            self.num_edges,
            query_first=self.query_position == "first",
            by_role=self.node_ids == "by_role",
            joined=self.edge_tokens == "joined",
            closed=self._is_mixed,
        )

    @property
    def vocabulary(self) -> tuple[str, ...]:
        return self._form.vocabulary

    @property
    def end(self) -> int | None:
        return self.dummy - 1 if self._is_mixed else None

    @property
    def padded_prompts(self) -> bool:
        return self._is_mixed

    @property
    def num_edges(self) -> int:
        """Edges of the largest graph."""
        return self.degree * (self.path_length - 1)

    @property
    def prompt_length(self) -> int:
        return self._form.length

    @property
    def answer_length(self) -> int:
        notes = {"none": 0, "reversed_path": self.path_length + 1, "breadth_first": self.num_edges + 1}
        return notes[self.scratchpad] + self.path_length + (self.end is not None)

    @property
    def chance(self) -> float:
        # On a path of two nodes the decision token is the goal, which the prompt gives away.
        if self.easy_mix is not None:
            return 1.0 if self.path_length == 2 else 1 / self.degree
        lengths = range(self.min_path_length, self.path_length + 1)
        degrees = range(self.min_degree, self.degree + 1)
        chances = [1.0 if length == 2 else 1 / degree for length, degree in product(lengths, degrees)]
        return sum(chances) / len(chances)

    @property
    def needs_plan(self) -> bool:
        return not self.reverse and self.scratchpad == "none"

    def sample(self, count: int, draws: Draws) -> Batch:
        start, arms, pairs = self._draw(count, draws)
        # The gold arm may always be arm 0: arms are exchangeable, and the order of the edges hides it.
        gold = arms[:, 0]
        return self._batch(pairs, start, gold, self._last(gold))

    def sample_training(self, count: int, draws: Draws) -> Batch:
        if not self.structured_batches:
            start, arms, pairs = self._draw(count, draws, self.backward_share, self.easy_mix or 0.0)
            gold = arms[:, 0]
        else:
            graphs = math.ceil(count / self.degree)
            drawn = self._draw(graphs, draws, self.backward_share, self.easy_mix or 0.0)
            start, arms, pairs = (x.repeat_interleave(self.degree, 0)[:count] for x in drawn)
            row = torch.arange(count, device=arms.device)
            # A graph with fewer arms asks for some of them again.
            gold = arms[row, row % self.degree % (arms[:, :, 0] != NONE).sum(1)]
        asked = self._last(gold)
        if self.query == "waypoint":
            place = draws.below((gold != NONE).sum(1, keepdim=True), count, 1)
            asked = gold.gather(1, place)
        return self._batch(pairs, start, gold, asked)

    def _draw(
        self, count: int, draws: Draws, backward_share: float = 0.0, easy_mix: float = 0.0
    ) -> tuple[Int[Tensor, "B 1"], Int[Tensor, "B D K"], Int[Tensor, "B E 2"]]:
        """Return the start, the nodes of every arm after it, and the edges in the order listed."""
        d, steps, edges = self.degree, self.path_length - 1, self.num_edges
        nodes = draws.permutation(count, self.num_nodes, edges + 1)
        start, arms = nodes[:, :1], nodes[:, 1:].reshape(count, d, steps)
        if self._is_mixed and self.easy_mix is not None:
            easy = draws.chosen(easy_mix, count, 1)
            degree = torch.where(easy, self.min_degree, d)
            length = torch.where(easy, self.min_path_length, self.path_length)
            arms = arms.where(self._within(degree, length), NONE)
        elif self._is_mixed:
            degree = self.min_degree + draws.integers(d - self.min_degree + 1, count, 1)
            length = self.min_path_length + draws.integers(steps - self.min_path_length + 2, count, 1)
            arms = arms.where(self._within(degree, length), NONE)
        listed = arms
        if self.edge_order == "by_arm":
            order = arms[:, :, 0].argsort(1)
            listed = arms.gather(1, order[:, :, None].expand_as(arms))
        elif self.edge_order == "arms_permuted":
            listed = arms.gather(1, draws.permutation(count, d)[:, :, None].expand_as(arms))
        tails = torch.cat([start[:, None].expand(count, d, 1), listed[:, :, :-1]], 2)
        pairs = torch.stack([tails.where(listed != NONE, NONE), listed], 3).reshape(count, edges, 2)
        order = torch.arange(edges, device=arms.device).expand(count, edges)
        if self.edge_order == "shuffled":
            order = draws.permutation(count, edges)
        if backward_share:
            is_backward = draws.chosen(backward_share, count, 1)
            # An edge's place on its arm is its number modulo the edges of an arm.
            order = order.gather(1, (order % steps * -is_backward.long()).argsort(dim=1, stable=True))
        pairs = pairs.gather(1, order[:, :, None].expand_as(pairs))
        if self.flip_edges:
            pairs = pairs.where(draws.integers(2, count, edges, 1) == 0, pairs.flip(2))
        if self._is_mixed:
            order = (pairs[:, :, 0] != NONE).int().argsort(dim=1, stable=True)
            pairs = pairs.gather(1, order[:, :, None].expand_as(pairs))
        return start, arms, pairs

    def _within(self, degree: Int[Tensor, "B 1"], length: Int[Tensor, "B 1"]) -> Bool[Tensor, "B D K"]:
        """Mark the nodes of the arms of smaller graphs."""
        arm, place = (torch.arange(n, device=degree.device) for n in (self.degree, self.path_length - 1))
        return (arm < degree)[:, :, None] & (place < length - 1)[:, None]

    @staticmethod
    def _last(arm: Int[Tensor, "B K"]) -> Int[Tensor, "B 1"]:
        return arm.gather(1, (arm != NONE).sum(1, keepdim=True) - 1)

    def _batch(
        self,
        pairs: Int[Tensor, "B E 2"],
        start: Int[Tensor, "B 1"],
        gold: Int[Tensor, "B K"],
        asked: Int[Tensor, "B 1"],
    ) -> Batch:
        prompt = self._prompt(pairs, start, asked)
        return Batch(prompt, self._answer(prompt, start, gold))

    def _prompt(
        self, pairs: Int[Tensor, "B E 2"], start: Int[Tensor, "B 1"], goal: Int[Tensor, "B 1"]
    ) -> Int[Tensor, "B P"]:
        return self._form.write(pairs, start, goal)

    def _answer(
        self, prompt: Int[Tensor, "B P"], start: Int[Tensor, "B 1"], arm: Int[Tensor, "B K"]
    ) -> Int[Tensor, "B A"]:
        """Return the notes, the path along an arm, and the end."""
        path = torch.cat([start, arm], 1)
        backward = path
        if self.reverse or self.scratchpad == "reversed_path":
            backward = _reverse(path, (path != NONE).sum(1, keepdim=True))
        parts = [self._form.tokens(backward if self.reverse else path, start)]
        if self.scratchpad != "none":
            notes = backward
            if self.scratchpad == "breadth_first":
                notes = self._arms(prompt).transpose(1, 2).flatten(1)
            parts = [self._form.tokens(notes, start), torch.full_like(start, self._form.bar + 1), *parts]
        if self.end is not None:
            parts.append(torch.full_like(start, self.end))
            answer = torch.cat(parts, 1)
            return take_first(answer, answer != self.dummy)
        return torch.cat(parts, 1)

    def _graph(
        self, prompt: Int[Tensor, "B P"]
    ) -> tuple[Int[Tensor, "B E"], Int[Tensor, "B E"], Int[Tensor, "B 1"], Int[Tensor, "B 1"]]:
        """Return the tails and the heads of the edges in the order listed, the start and the goal."""
        return self._form.read(prompt)

    def _sizes(self, prompt: Int[Tensor, "B P"]) -> tuple[Int[Tensor, "B 1"], Int[Tensor, "B 1"]]:
        """Return the degree and the path length of each graph."""
        tails, heads, start, _ = self._graph(prompt)
        if not self._is_mixed:
            return torch.full_like(start, self.degree), torch.full_like(start, self.path_length)
        degree = ((tails == start) | (heads == start)).sum(1, keepdim=True)
        return degree, (heads != NONE).sum(1, keepdim=True) // degree + 1

    def _arms(self, prompt: Int[Tensor, "B P"]) -> Int[Tensor, "B D K"]:
        """Return the nodes of every arm after the start, arms in the order of their first edges."""
        tails, heads, start, _ = self._graph(prompt)
        # An inner node has two neighbours: their sum less the one it was entered from is the next node.
        # Missing edges are counted at a place of their own, beyond the nodes.
        places = [nodes.where(nodes != NONE, self.num_nodes) for nodes in (tails, heads)]
        neighbours = prompt.new_zeros(len(prompt), self.num_nodes + 1)
        neighbours = neighbours.scatter_add(1, places[0], heads).scatter_add(1, places[1], tails)
        leaving = ((tails != start) & (heads != start)).int().argsort(dim=1, stable=True)[:, : self.degree]
        before, node = start, (tails + heads).gather(1, leaving) - start
        arms = [node]
        for _ in range(self.path_length - 2):
            inside = node.clamp(0, self.num_nodes)  # beyond the end of a shorter arm, anything
            before, node = node, neighbours.gather(1, inside) - before
            arms.append(node)
        found = torch.stack(arms, 2)
        return found.where(self._within(*self._sizes(prompt)), NONE) if self._is_mixed else found

    def _notes(self, prompt: Int[Tensor, "B P"]) -> Int[Tensor, "B 1"]:
        """Return the tokens before the path."""
        degree, length = self._sizes(prompt)
        if self.scratchpad == "reversed_path":
            return length + 1
        return degree * (length - 1) + 1 if self.scratchpad == "breadth_first" else 0 * length

    def check(self, prompt: Int[Tensor, "B P"], answer: Int[Tensor, "B A"]) -> Int[Tensor, " B"]:
        """Return the outcome of each path.

        * `wrong_arm`: the path of a wrong arm. The last token may be the goal, which the prompt gives away.
        * `late`: the first two tokens are right, a later token is wrong.
        * `broken_edge`: a wrong decision, and the nodes are not the path of a wrong arm.
        * `other`: the path does not begin at the start, or contains a token that is not a node.
        """
        _, _, start, goal = self._graph(prompt)
        arms, (_, length), notes = self._arms(prompt), self._sizes(prompt), self._notes(prompt)
        place = torch.arange(self.path_length, device=answer.device)
        is_node = place < length
        written = self._form.nodes(answer.gather(1, (notes + place).clamp(max=answer.shape[1] - 1)), start)
        path = _reverse(written, length) if self.reverse else written
        path = path.where(is_node, NONE)
        closed = self.end is None or answer.gather(1, notes + length)[:, 0] == self.end
        # (B, D): the answer follows this arm up to its last node; it ends with that node or with the goal.
        inner = (place < length - 1)[:, None, 1:]
        walks = ((path[:, None, 1:] == arms) | ~inner).all(2) & (path[:, :1] == start)
        last = path.gather(1, length - 1)
        last_of_arms = arms.gather(2, (length - 2)[:, None].expand(-1, self.degree, 1))[:, :, 0]
        ends = (last == last_of_arms) | (last == goal)
        is_gold = (arms == goal[:, None]).any(2)
        gold = arms[torch.arange(len(arms), device=arms.device), is_gold.int().argmax(1)]
        gold = torch.cat([start, gold], 1)
        first_two = (_reverse(gold, length) if self.reverse else gold)[:, :2]
        right = (path == gold).all(1) & closed
        decided = (written[:, :2] == first_two).all(1)
        is_wrong = ~is_gold & (arms[:, :, 0] != NONE)
        wrong_arm = (walks & ends & is_wrong).any(1) & closed
        broken = (path[:, 0] == start[:, 0]) & ((path != NONE) | ~is_node).all(1)
        kinds = [right, wrong_arm, broken & ~decided, decided]
        return first_outcome(kinds, self.outcomes.index("other"))

    def decision_mask(self, batch: Batch) -> Bool[Tensor, "B A"]:
        column = torch.arange(batch.answer.shape[1], device=batch.answer.device)
        return column == self._notes(batch.prompt) + 1

    def distract(self, batch: Batch) -> Int[Tensor, "B A"] | None:
        """Return the path of the first wrong arm listed, after the right notes.

        If reversed, the first token stays the goal.
        """
        if self.min_degree == 1 or self.min_path_length == 2:
            return None
        _, _, start, goal = self._graph(batch.prompt)
        arms = self._arms(batch.prompt)
        is_wrong = (arms != goal[:, None]).all(2) & (arms[:, :, 0] != NONE)
        arm = arms[torch.arange(len(arms), device=arms.device), is_wrong.int().argmax(1)]
        answer = self._answer(batch.prompt, start, arm)
        column = torch.arange(answer.shape[1], device=answer.device)
        return batch.answer.where(column <= self._notes(batch.prompt), answer)

    def path_edges(self, prompt: Int[Tensor, "B P"]) -> tuple[Int[Tensor, "B E"], Int[Tensor, "B E"]] | None:
        if self.scratchpad != "none":
            return None
        start, arms = self._graph(prompt)[2], self._arms(prompt)
        before = torch.cat([start[:, None].expand(-1, arms.shape[1], -1), arms[:, :, :-1]], 2)
        tails, heads = (self._form.tokens(nodes.flatten(1), start) for nodes in (before, arms))
        return (heads, tails) if self.reverse else (tails, heads)

    def landmarks(self, batch: Batch) -> dict[str, Bool[Tensor, "B P"]]:
        """Mark the query's goal, the node before it in the edge between them, and the first hop's edge."""
        tails, heads, start, goal = self._graph(batch.prompt)
        arms = self._arms(batch.prompt)
        is_gold = (arms == goal[:, None]).any(2).int().argmax(1)
        path = torch.cat([start, arms[torch.arange(len(arms), device=arms.device), is_gold]], 1)
        first = path[:, 1:2]
        before = path.gather(1, (path == goal).int().argmax(1, keepdim=True) - 1)
        hop = ((tails == start) & (heads == first)) | ((tails == first) & (heads == start))
        return {
            "goal": self._form.mark_goal(batch.prompt),
            "predecessor": self._form.mark_ends(
                (tails == before) & (heads == goal), (heads == before) & (tails == goal)
            ),
            "first_hop": self._form.mark_ends(hop, hop),
        }

    def strata(self, batch: Batch) -> dict[str, Int[Tensor, " B"]]:
        sizes = dict(zip(("degree", "path_length"), self._sizes(batch.prompt), strict=True))
        return {name: sizes[name][:, 0] for name in self.strata_sizes}

    @property
    def strata_sizes(self) -> dict[str, int]:
        """The sizes that differ between graphs."""
        sizes = {"degree": (self.min_degree, self.degree)}
        sizes["path_length"] = (self.min_path_length, self.path_length)
        return {name: most + 1 for name, (least, most) in sizes.items() if least < most}

    def fingerprint(self, batch: Batch) -> Int[Tensor, " B"]:
        """Hash the set of edges alone, in any order.

        A graph is held out with all of its goals. If it were held out with one goal, a model that has
        memorised the other arm's answer would fall below chance.
        """
        tails, heads, _, _ = self._graph(batch.prompt)
        if self.flip_edges:
            tails, heads = torch.minimum(tails, heads), torch.maximum(tails, heads)
        return hash_edges(tails, heads, self.num_nodes)

    def _listed(self, prompt: Int[Tensor, " P"]) -> tuple[list[tuple[int, int]], int, int]:
        """Return the edges, the start and the goal of one row."""
        tails, heads, start, goal = (x[0].tolist() for x in self._graph(prompt[None]))
        edges = [pair for pair in zip(tails, heads, strict=True) if pair[1] != NONE]
        return edges, start[0], goal[0]

    def drawing(self, prompt: Int[Tensor, " P"]) -> dict[str, Any]:
        return drawing_of(*self._listed(prompt))

    def text(self, prompt: Int[Tensor, " P"], answer: Int[Tensor, " A"]) -> str:
        """Return the graph and the path, without notes."""
        notes, length = int(self._notes(prompt[None])), int(self._sizes(prompt[None])[1])
        edges, start, goal = self._listed(prompt)
        path = self._form.nodes(answer[None, notes : notes + length], torch.tensor([[start]]))[0].tolist()
        return star_text(edges, start, goal, path[::-1] if self.reverse else path)

    def parse_all(self, lines: list[str]) -> Batch | None:
        if self.flip_edges:
            return None
        by_size = defaultdict[tuple[int, int], list[int]](list)
        for number, line in enumerate(lines):
            by_size[line.count("|") + 1, line.count(",", line.find("=")) + 1].append(number)
        prompts = torch.empty(len(lines), self.prompt_length, dtype=torch.long)
        answers = torch.empty(len(lines), self.answer_length, dtype=torch.long)
        for (edges, length), numbers in by_size.items():
            batch = self._parse_alike([lines[number] for number in numbers], edges, length)
            if batch is None:
                return None
            prompts[numbers], answers[numbers] = batch.prompt, batch.answer
        return Batch(prompts, answers)

    def _parse_alike(self, lines: list[str], edges: int, length: int) -> Batch | None:
        """Return the rows of lines with as many edges and nodes on the path."""
        node = "[0-9]{1,9}"
        edge, rest = f"{node},{node}", length - 1
        row = re.compile(f"(?:{edge}[|]){{{edges - 1}}}{edge}/{edge}={node}(?:,{node}){{{rest}}}")
        if not self._is_size(edges, length) or not all(map(row.fullmatch, lines)):
            return None
        numbers = " ".join(lines).translate(_SEPARATORS)
        nodes = torch.from_numpy(np.fromstring(numbers, dtype=np.int64, sep=" ")).view(len(lines), -1)
        if (nodes >= self.num_nodes).any():
            return None
        listed, start, asked, path = nodes.split([2 * edges, 1, 1, length], 1)
        pairs = listed.view(len(lines), edges, 2)
        is_asked = path[:, 1:] == asked if self.query == "waypoint" else path[:, -1:] == asked
        if not is_asked.any(1).all() or not are_stars(pairs, start, path, self.num_nodes):
            return None
        return self._row(pairs, start, asked, path)

    def _is_size(self, edges: int, length: int) -> bool:
        degree, rest = divmod(edges, max(1, length - 1))
        is_degree = self.min_degree <= degree <= self.degree
        return is_degree and not rest and self.min_path_length <= length <= self.path_length

    def _row(
        self,
        pairs: Int[Tensor, "B e 2"],
        start: Int[Tensor, "B 1"],
        asked: Int[Tensor, "B 1"],
        path: Int[Tensor, "B a"],
    ) -> Batch:
        """Return rows of a size that may be smaller than the largest."""
        pairs = F.pad(pairs, (0, 0, self.num_edges - pairs.shape[1], 0), value=NONE)
        arm = F.pad(path[:, 1:], (0, self.path_length - path.shape[1]), value=NONE)
        return self._batch(pairs, start, arm, asked)

    def parse(self, line: str) -> tuple[list[int], list[int]]:
        edges, start, asked, path = parse_star(line)
        if not self._is_size(len(edges), len(path)):
            raise InputError(
                f"a path of {len(path)} nodes in {len(edges)} edges; expected {self._expected_size()}"
            )
        refuse_outside([*chain.from_iterable(edges), start, asked, *path], self.num_nodes)
        verify_star(point_outwards(edges, start) if self.flip_edges else edges, start, path)
        if asked not in (path[1:] if self.query == "waypoint" else path[-1:]):
            wrong = ",".join(map(str, path))
            raise InputError(f"{wrong} is not the path from {start} to {asked}; correct the answer")
        rows = [torch.tensor([x]) for x in (edges, [start], [asked], path)]
        batch = self._row(*rows)
        return batch.prompt[0].tolist(), batch.answer[0].tolist()

    def _expected_size(self) -> str:
        if not self._is_mixed:
            return (
                f"{self.path_length} nodes in {self.num_edges} edges (task.degree={self.degree}, "
                f"task.path_length={self.path_length})"
            )
        return (
            f"{self.min_path_length} to {self.path_length} nodes on each of {self.min_degree} to "
            f"{self.degree} arms (task.min_path_length, task.path_length, task.min_degree, task.degree)"
        )


def _reverse(path: Int[Tensor, "B L"], length: Int[Tensor, "B 1"]) -> Int[Tensor, "B L"]:
    """Reverse the first `length` nodes of each row; `NONE` after them."""
    place = torch.arange(path.shape[1], device=path.device)
    return path.gather(1, (length - 1 - place).clamp(min=0)).where(place < length, NONE)
