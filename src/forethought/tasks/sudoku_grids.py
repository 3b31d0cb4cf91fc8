"""Solved grids of Sudoku, and what singles tell of them. A grid of n⁴ cells has boxes of n × n."""

from functools import lru_cache

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from forethought.tasks.draw import Draws

_BASES = {
    2: "1234341221434321",
    3: "123456789456987132789321456634812597218579364597643821975168243861234975342795618",
}
"""A solved grid for each size of a box. The second is an ordinary one, as a random walk of swaps meets them.

From 9×9 grids that one writes down, such as shifted rows, the walk does not get away: each of its steps
exchanges two names in the whole grid.
"""

_SWAPS = 40
"""Swaps of two digits that make a grid of a base. For 4×4, the result is uniform."""


def _draw_lines(box: int, count: int, draws: Draws) -> Int[Tensor, "B N"]:
    """Return an order of the rows: the bands are in random order, and the rows within each band."""
    bands = draws.permutation(count, box)
    within = torch.stack([draws.permutation(count, box) for _ in range(box)], 1)
    return (bands[:, :, None] * box + within).flatten(1)


def draw_grids(box: int, count: int, draws: Draws) -> Int[Tensor, "B C"]:
    """Draw solved grids, in the way that `Sudoku` tells, with digits from 1.

    Two digits can be swapped in some rows alone if these share no column and no box with the others: the
    column or box of a digit in one of them holds the other digit in one of them, too.
    """
    size = box**2
    base = torch.tensor([int(digit) for digit in _BASES[box]], device=draws.device).view(size, size)
    rows, columns = (_draw_lines(box, count, draws) for _ in range(2))
    grid = base[rows[:, :, None], columns[:, None, :]]
    grid = grid.transpose(1, 2).where(draws.integers(2, count, 1, 1) == 1, grid)
    names = draws.permutation(count, size) + 1
    grid = names.gather(1, grid.flatten(1) - 1).view(-1, size, size)
    line = torch.arange(size, device=draws.device)
    band = line // box
    in_band = band[:, None] == band
    for _ in range(_SWAPS):
        first, second = (draws.permutation(count, size, 2) + 1)[:, :, None, None].unbind(1)
        here, there = grid == first, grid == second
        column, other = here.int().argmax(2)[:, :, None], there.int().argmax(2)[:, None]
        linked = (column == other) | (column // box == other // box) & in_band
        linked = linked | linked.transpose(1, 2)
        swapped = draws.integers(size, count, 1) == line
        for _ in range(size - 1):
            swapped = swapped | (linked & swapped[:, None]).any(2)
        here, there = here & swapped[:, :, None], there & swapped[:, :, None]
        grid = second.where(here, first.where(there, grid))
    return grid.flatten(1)


def add_singles(box: int, digits: Int[Tensor, "B C"], known: Bool[Tensor, "B C"]) -> Bool[Tensor, "B C"]:
    """Return the cells known after one round of singles.

    Singles fill a cell with its digit of the solution, `digits`, if the known cells hold those, too.
    """
    every, nibbles = (1 << box**2 + 1) - 2, _nibbles(box, str(digits.device))
    digits, known = (cells.view(-1, box, box, box, box) for cells in (digits, known))
    # A digit occurs once among the known cells of a row, so that sums of bits are sets.
    row, column, square = _unit_sums((1 << digits) * known)
    is_open = (every ^ (row | column | square)).masked_fill(known, 0)
    known = known | (is_open == 1 << digits)
    for counts in _unit_sums(nibbles[is_open]):
        known = known | ((counts >> 4 * digits & 15) == 1)
    return known.flatten(1)


def _unit_sums(cells: Int[Tensor, "B n n n n"]) -> list[Int[Tensor, "B ..."]]:
    """Return the sums over rows, columns and boxes, to be broadcast to their cells.

    The dimensions are the band, the row within it, the stack, and the column within it.
    """
    return [cells.sum(unit, keepdim=True) for unit in ((3, 4), (1, 2), (2, 4))]


@lru_cache(maxsize=8)  # a GPU would wait for the copies
def _nibbles(box: int, device: str) -> Int[Tensor, " S"]:
    """Return, for each set of digits in bits, the set with 4 bits a digit. A sum of these counts digits."""
    sets = torch.arange(1 << box**2 + 1)
    digit = torch.arange(box**2 + 1)
    return ((sets[:, None] >> digit & 1) << 4 * digit).sum(1).to(device)


@lru_cache(maxsize=8)
def peers(box: int, device: str) -> Int[Tensor, "K C"]:
    """Return the K other cells in the row, the column or the box of each cell."""
    size = box**2
    cell = torch.arange(size**2)
    row, column = cell // size, cell % size
    units = torch.stack([row, column, row // box * box + column // box])
    shared = (units[:, :, None] == units[:, None]).any(0) & ~torch.eye(size**2, dtype=torch.bool)
    return shared.nonzero()[:, 1].view(size**2, -1).T.contiguous().to(device)
