"""The prompt of a graph: its edges and a query as tokens."""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from torch import Tensor

from forethought.tasks.graph import take_first

NONE = -1
"""In place of a node that a smaller graph does not have."""


@dataclass(frozen=True)
class GraphPrompt:
    """Edges and a query as tokens. A smaller graph is padded with `$` on the left. One of two edges:

        pairs      2 8 | 5 2 / 5 8 =          by role    2 >8 | 5 >2 / 5 8 =
        joined     2,8   5,2 / 5 8 =          query first      / 5 8 2 8 | 5 2 =

    Args:
        num_nodes: number of node names N.
        num_edges: edges of the largest graph E.
        query_first: the query stands before the edges.
        by_role: a node has another token as the head of an edge, and on the path after the start.
        joined: an edge is one token.
        closed: there is a token that ends an answer.
    """

    num_nodes: int
    num_edges: int
    query_first: bool = False
    by_role: bool = False
    joined: bool = False
    closed: bool = False

    @cached_property
    def vocabulary(self) -> tuple[str, ...]:
        names = [*map(str, range(self.num_nodes))]
        roles = [f">{name}" for name in names] if self.by_role else []
        edges = [f"{tail},{head}" for tail in names for head in names] if self.joined else []
        return (*names, *roles, "|", "=", "/", *edges, *(["end"] if self.closed else []), "$")

    @cached_property
    def dummy(self) -> int:
        return len(self.vocabulary) - 1

    @property
    def first_head(self) -> int:
        """Token of node 0 as the head of an edge."""
        return self.num_nodes if self.by_role else 0

    @property
    def bar(self) -> int:
        """Token `|`, before `=` and `/`."""
        return self.first_head + self.num_nodes

    @property
    def edges_width(self) -> int:
        return self.num_edges if self.joined else 3 * self.num_edges - 1

    @property
    def length(self) -> int:
        return self.edges_width + 4

    def tokens(self, nodes: Int[Tensor, "B C"], start: Int[Tensor, "B 1"]) -> Int[Tensor, "B C"]:
        """Return the tokens of an answer's nodes, `$` for `NONE`."""
        tokens = nodes.where(nodes == start, nodes + self.first_head) if self.by_role else nodes
        return tokens.where(nodes != NONE, self.dummy) if self.closed else tokens

    def nodes(self, tokens: Int[Tensor, "B C"], start: Int[Tensor, "B 1"]) -> Int[Tensor, "B C"]:
        """Return the nodes of an answer's tokens, `NONE` for a token that is none of them."""
        nodes = tokens - self.first_head
        is_node = (nodes >= 0) & (nodes < self.num_nodes)
        if self.by_role:
            return start.where(tokens == start, nodes.where(is_node & (nodes != start), NONE))
        return nodes.where(is_node, NONE)

    def write(
        self, pairs: Int[Tensor, "B E 2"], start: Int[Tensor, "B 1"], goal: Int[Tensor, "B 1"]
    ) -> Int[Tensor, "B P"]:
        """Return prompts. A pair of a smaller graph is `NONE`, and stands on the left."""
        bar, equals, slash = (torch.full_like(start, self.bar + i) for i in range(3))
        if self.joined:
            listed = pairs[:, :, :1] * self.num_nodes + pairs[:, :, 1:] + self.bar + 3
        else:
            tails, heads = pairs.split(1, 2)
            bars = bar[:, None].expand(-1, self.num_edges, 1)
            listed = torch.cat([tails, heads + self.first_head, bars], 2)
        if self.closed:
            listed = listed.masked_fill(pairs[:, :, :1] == NONE, self.dummy)
        listed = listed.flatten(1)[:, : self.edges_width]
        query = torch.cat([slash, start, goal], 1)
        if self.query_first:
            prompt = torch.cat([query, listed, equals], 1)
            return take_first(prompt, prompt == self.dummy) if self.closed else prompt
        return torch.cat([listed, query, equals], 1)

    def read(
        self, prompt: Int[Tensor, "B P"]
    ) -> tuple[Int[Tensor, "B E"], Int[Tensor, "B E"], Int[Tensor, "B 1"], Int[Tensor, "B 1"]]:
        """Return the tails and the heads of the edges in the order listed, the start and the goal."""
        width = self.edges_width
        if self.query_first:
            if self.closed:
                column = torch.arange(self.length, device=prompt.device)
                padding = (prompt == self.dummy).sum(1, keepdim=True)
                prompt = take_first(prompt, (column >= padding) & (column < padding + 3))
            query, listed = prompt[:, :3], prompt[:, 3 : 3 + width]
        else:
            listed, query = prompt[:, :width], prompt[:, width : width + 3]
        start, goal = query[:, 1:].split(1, 1)
        if self.joined:
            edge = listed - (self.bar + 3)
            tails, heads = edge // self.num_nodes, edge % self.num_nodes
        else:
            tails, heads = listed[:, 0::3], listed[:, 1::3] - self.first_head
        if self.closed:
            missing = listed[:, :: 1 if self.joined else 3] == self.dummy
            tails, heads = tails.masked_fill(missing, NONE), heads.masked_fill(missing, NONE)
        return tails, heads, start, goal

    def mark_ends(self, tails: Bool[Tensor, "B E"], heads: Bool[Tensor, "B E"]) -> Bool[Tensor, "B P"]:
        """Return the mask of the tokens of these ends of the edges listed. A joined edge is one token."""
        if self.joined:
            listed = tails | heads
        else:
            listed = torch.stack([tails, heads, torch.zeros_like(tails)], 2).flatten(1)[:, :-1]
        return F.pad(listed, (3, 1) if self.query_first else (0, 4))

    def mark_goal(self, prompt: Int[Tensor, "B P"]) -> Bool[Tensor, "B P"]:
        """Return the mask of the query's goal."""
        column = torch.arange(self.length, device=prompt.device).expand_as(prompt)
        if not self.query_first:
            return column == self.length - 2
        padding = (prompt == self.dummy).sum(1, keepdim=True) if self.closed else 0
        return column == padding + 2


graph_prompt = lru_cache(GraphPrompt)
"""Return the one prompt of its sizes, which keeps the names of all tokens."""
