"""Mazes on a square lattice: spanning trees by depth-first search, and the ways in them.

The cell in row r and column c has the number r · size + c, and N = size² stands for no cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from jaxtyping import Int
from torch import Tensor

from forethought.errors import InputError
from forethought.tasks.draw import Draws
from forethought.tasks.graph import WORD_BITS


@lru_cache(maxsize=16)
def _neighbours(size: int, device: str) -> Int[Tensor, ...]:
    """Return the cells above, left, right and below of each cell."""
    framed = torch.full((size + 2, size + 2), size * size, device=device)
    framed[1:-1, 1:-1] = torch.arange(size * size, device=device).view(size, size)
    sides = (framed[:-2, 1:-1], framed[1:-1, :-2], framed[1:-1, 2:], framed[2:, 1:-1])
    return torch.stack(sides, 2).flatten(0, 1)


def draw_mazes(
    size: int, count: int, draws: Draws
) -> tuple[Int[Tensor, "B E 2"], Int[Tensor, "B N"], Int[Tensor, "B N"]]:
    """Draw spanning trees of the lattice by randomised depth-first search.

    The search begins at a random cell. It moves to a random neighbour that it has not visited, or else
    returns by the way it came.

    Return the E = N - 1 edges in random order and directions, and for each cell the cell from which the
    search came (of the first cell, itself) and its edges from the first cell.
    """
    cells = size * size
    neighbours = _neighbours(size, str(draws.device))
    first = draws.integers(cells, count, 1)
    came_from, depth = first.repeat(1, cells), first.new_zeros(count, cells)
    is_open = first.new_ones(count, cells + 1).scatter(1, first, 0)
    is_open[:, cells] = 0
    cell = first
    # All cells but the first are entered once, and all but the first and the last are left as often.
    for word in draws.integers(1 << WORD_BITS, count, 2 * cells - 3).split(1, 1):
        options = neighbours[cell[:, 0]]
        weights = is_open.gather(1, options).cumsum(1)
        moves = weights[:, -1:] > 0
        place = (weights > (weights[:, -1:] * word >> WORD_BITS)).int().argmax(1, keepdim=True)
        back = came_from.gather(1, cell)
        # Without a move, what is known of the cell is written again.
        new = options.gather(1, place).where(moves, cell)
        came_from = came_from.scatter(1, new, cell.where(moves, back))
        depth = depth.scatter(1, new, depth.gather(1, cell) + moves)
        is_open = is_open.scatter(1, new, 0)
        cell = new.where(moves, back)
    node = torch.arange(cells, device=first.device).expand(count, cells)
    heads = node[node != first].view(count, cells - 1)
    order = draws.permutation(count, cells - 1)
    heads = heads.gather(1, order)
    pairs = torch.stack([came_from.gather(1, heads), heads], 2)
    return pairs.where(draws.integers(2, count, cells - 1, 1) == 0, pairs.flip(2)), came_from, depth


def tree_paths(
    came_from: Int[Tensor, "B N"],
    depth: Int[Tensor, "B N"],
    origin: Int[Tensor, "B 1"],
    target: Int[Tensor, "B 1"],
) -> tuple[Int[Tensor, "B N"], Int[Tensor, "B 1"]]:
    """Return the cells on the path from the origin to the target, and its edges. The rest has no meaning."""
    cells = came_from.shape[1]
    # Climb from both ends, the deeper one first, until they meet.
    up, down = origin.repeat(1, cells), target.repeat(1, cells)
    ups, downs = torch.zeros_like(origin), torch.zeros_like(origin)
    for _ in range(cells - 1):
        climbs = depth.gather(1, origin) >= depth.gather(1, target)
        apart = origin != target
        origin = came_from.gather(1, origin).where(apart & climbs, origin)
        target = came_from.gather(1, target).where(apart & ~climbs, target)
        ups, downs = ups + (apart & climbs), downs + (apart & ~climbs)
        up, down = up.scatter(1, ups, origin), down.scatter(1, downs, target)
    column, edges = torch.arange(cells, device=up.device), ups + downs
    return up.where(column <= ups, down.gather(1, (edges - column).clamp(min=0))), edges


def doors_of(size: int, tails: Int[Tensor, "B E"], heads: Int[Tensor, "B E"]) -> Int[Tensor, "B N 4"]:
    """Return the cells that edges join to each cell, by side: above, left, right, below; N behind a wall."""
    neighbours = _neighbours(size, str(tails.device))
    doors = torch.full_like(tails[:, :1], size * size).repeat(1, size * size * 4)
    for cell, other in ((tails, heads), (heads, tails)):
        side = (neighbours[cell] == other[:, :, None]).int().argmax(2)
        doors = doors.scatter(1, cell * 4 + side, other)
    return doors.view(len(tails), size * size, 4)


def manhattan(size: int, a: Int[Tensor, "*#B"], b: Int[Tensor, "*#B"]) -> Int[Tensor, ...]:
    """Return the rows and columns between two cells."""
    return (a // size - b // size).abs() + (a % size - b % size).abs()


def verify_tree(size: int, edges: Sequence[tuple[int, int]], nodes: Sequence[int]) -> None:
    """Raise InputError if the edges are not a tree of all nodes 0 … N - 1, or other nodes lie outside."""
    cells = size * size
    for node in [*(node for edge in edges for node in edge), *nodes]:
        if not 0 <= node < cells:
            raise InputError(f"node {node} is out of range for task.size={size}; expected 0…{cells - 1}")
    if len(edges) != cells - 1:
        raise InputError(f"{len(edges)} edges; expected {cells - 1} (task.size={size})")
    group = list(range(cells))
    for tail, head in edges:
        if group[tail] == group[head]:
            raise InputError(f"the edge {tail},{head} closes a circle; expected a tree")
        group = [group[head] if name == group[tail] else name for name in group]
