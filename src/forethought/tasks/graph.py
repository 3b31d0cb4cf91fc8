"""Parts that tasks on graphs share: outcomes of paths, hashes of graphs, worlds, texts and pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from forethought.errors import InputError
from forethought.tasks.draw import splitmix64

WORD_BITS = 31
"""Bits of the random words that are drawn together, as `Draws.below` would one by one."""


def take_first(x: Int[Tensor, "B C"], is_first: Bool[Tensor, "B C"]) -> Int[Tensor, "B C"]:
    """Return the columns of each row, those that `is_first` marks before the others, else in their order."""
    return x.gather(1, (~is_first).int().argsort(dim=1, stable=True))


def to_device(world: Any, device: torch.device | str) -> Any:
    """Return a named tuple of facts that all rows share, with its tensors on a device."""
    tables = {name: fact.to(device) for name, fact in world._asdict().items() if isinstance(fact, Tensor)}
    return world._replace(**tables)


def first_outcome(kinds: Sequence[Bool[Tensor, " B"]], other: int) -> Int[Tensor, " B"]:
    """Return the number of the first kind that each row is of, `other` if it is of none."""
    held = torch.stack([*kinds])
    return held.int().argmax(0).where(held.any(0), other)


def pick_weighted(
    weights: Int[Tensor, "B N"], words: Int[Tensor, "B K"], wanted: Int[Tensor, "B 1"]
) -> tuple[Int[Tensor, "B K"], Bool[Tensor, "B K"], Bool[Tensor, "B N"]]:
    """Draw up to `wanted` nodes without replacement, each with a probability in proportion to its weight.

    `words` are random numbers below 2^WORD_BITS, one for each of the K nodes that may be wanted.

    Return the nodes, which of them are drawn, and the mask of these.
    """
    places, drawn = [], []
    for number, word in enumerate(words.split(1, 1)):
        sums = weights.cumsum(1)
        places.append((sums > (word * sums[:, -1:] >> WORD_BITS)).int().argmax(1, keepdim=True))
        drawn.append((number < wanted) & (sums[:, -1:] > 0))
        weights = weights.scatter(1, places[-1], 0)
    place, is_drawn = torch.cat(places, 1), torch.cat(drawn, 1)
    return place, is_drawn, torch.zeros_like(weights).scatter_add(1, place, is_drawn.long()) > 0


def hash_edges(tails: Int[Tensor, "B E"], heads: Int[Tensor, "B E"], size: int) -> Int[Tensor, " B"]:
    """Return a 64-bit key of the set of edges of each row, in any order.

    Args:
        size: above the id of every node, and of padding.
    """
    return splitmix64(splitmix64(1 + tails * size + heads).sum(1))


def star_text(edges: Iterable[tuple[int, int]], start: int, goal: int, path: Iterable[int]) -> str:
    """Return a graph and a path in the form `a,b|c,d|…/start,goal=start,v1,…,goal`."""
    listed = "|".join(f"{tail},{head}" for tail, head in edges)
    return f"{listed}/{start},{goal}={','.join(map(str, path))}"


def parse_star(line: str) -> tuple[list[tuple[int, int]], int, int, list[int]]:
    """Return edges, start, goal and path; the inverse of `star_text`.

    Raises:
        InputError: the line has another form.
    """
    try:
        if not set(line) <= set("0123456789,|/=-"):
            raise ValueError
        graph, path = line.split("=")
        listed, query = graph.split("/")
        edges = [(tail, head) for tail, head in (map(int, edge.split(",")) for edge in listed.split("|"))]
        start, goal = map(int, query.split(","))
        return edges, start, goal, [int(node) for node in path.split(",")]
    except ValueError:
        raise InputError(
            f"{line[:40]!r} is malformed; expected a,b|c,d|…/start,goal=start,v1,…,goal"
        ) from None


def refuse_outside(nodes: Iterable[int], num_nodes: int) -> None:
    """Raise InputError if a node of a line is none of 0 … N - 1."""
    for node in nodes:
        if not 0 <= node < num_nodes:
            raise InputError(
                f"node {node} is out of range for task.num_nodes={num_nodes}; expected 0…{num_nodes - 1}"
            )


def drawing_of(edges: Iterable[Sequence[int]], start: int, goal: int) -> dict[str, Any]:
    """Return a graph in the form of `Task.drawing`."""
    return {
        "edges": [[str(tail), str(head)] for tail, head in edges],
        "start": str(start),
        "goal": str(goal),
    }
