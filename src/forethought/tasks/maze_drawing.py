"""A maze to draw from its edges: its nodes have names, and the answer says where each of them lies."""

from functools import lru_cache
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Int
from pydantic import Field
from torch import Tensor

from forethought.errors import InputError
from forethought.tasks.base import Batch, Task
from forethought.tasks.draw import Draws
from forethought.tasks.graph import (
    drawing_of,
    first_outcome,
    hash_edges,
    parse_star,
    star_text,
)
from forethought.tasks.graph_prompt import GraphPrompt, graph_prompt
from forethought.tasks.lattice import draw_mazes, manhattan, verify_tree
from forethought.validation import validated_dataclass

_CHANCE_ROWS = 1000
"""Rows of a batch from which `chance` is estimated. Its standard error is at most 0.004."""


@validated_dataclass
class MazeDrawing(Task):
    """Drawing of a maze of n × n cells, n = `size`, from the shuffled list of its edges.

    The maze is that of `Maze`, but its cells have random names, which tell nothing of their places. The
    prompt lists the edges, each in a random direction, and the names at the left and right end of the top
    row. The answer is the names row by row, so that each edge joins neighbours. n = 4:

        maze     8 - 9   14- 3        text     6,10|15,0|…|4,9/8,3=8,9,14,3,7,4,13,1,2,5,6,10,12,0,15,11
                     |   |   |        prompt   6 10 | 15 0 | … | 4 9 / 8 3 =
                 7   4   13  1        answer   8 9 14 3 7 4 13 1 2 5 6 10 12 0 15 11
                 |   |   |                       ^ ^    ^              ^   the decisions
                 2   5   6 - 10
                 |   |       |        14: 9 has one more neighbour, 4. Does 4 belong here, or below 9?
                 12- 0 - 15- 11       10: 6 has one more neighbour, 10. Here, or below 6?

    A name follows by a look-up if an undrawn node is joined to the one above, or, in the last row, to the
    one on the left; so do both ends of the top row and the last name. All others are decisions: 5 a maze on
    average, for n = 4. Some mazes need less foresight than others, so that accuracy rises by degrees, where
    that of the path-star jumps.

    Any drawing that fits is right, also one that is turned or mirrored. The names at the top choose one of
    the eight views of the square, so that the answer can be learned. They leave 7 drawings on average for
    n = 4, because neighbours need not be joined. The answer is the one from which the maze was taken. An
    objective that writes each name after those before it can settle on any of them. One that writes all
    names at once cannot. `decision_accuracy` counts the answer's own names, and thus stays below 1.

    Source: the task `gridembed` of github.com/ylsung/ssl-speedrun (sslrun/data/gridembed.py), with no paper.
    There, 4.7 M parameters draw .33 ± .27 of the mazes of 4 × 4 cells right after 48,000 steps on the next
    token, .88 ± .02 with eight heads; a greedy guesser, .03. What differs: there, the prompt has no names at
    the top, and the answer is in a random one of the eight views. Its answer also has a token for each wall
    and passage, which follow from the names. It holds out a maze in one view; here, in all of them.

    Args:
        size: cells on a side n. Of 3 × 3 cells there are too few mazes to hold any out.
    """

    size: int = Field(default=4, ge=4, le=6)

    outcomes: ClassVar = ("right", "broken_edge", "repeated", "other")

    @property
    def _cells(self) -> int:
        return self.size**2

    @property
    def _form(self) -> GraphPrompt:
        return graph_prompt(self._cells, self._cells - 1)

    @property
    def vocabulary(self) -> tuple[str, ...]:
        return self._form.vocabulary

    @property
    def prompt_length(self) -> int:
        return self._form.length

    @property
    def answer_length(self) -> int:
        return self._cells

    @property
    def chance(self) -> float:
        """Accuracy of a greedy guesser, estimated from rows with a fixed seed.

        The guesser takes the undrawn neighbour of the node above, or else a random one of the node on the
        left, or else any node that no drawn one is joined to. It takes no node with more undrawn neighbours
        than cells are free beside and below.
        """
        return _chances(self.size)[0]

    @property
    def decision_chance(self) -> float:
        return _chances(self.size)[1]

    def sample(self, count: int, draws: Draws) -> Batch:
        pairs, _, _ = draw_mazes(self.size, count, draws)
        names = draws.permutation(count, self._cells)
        pairs = names.gather(1, pairs.flatten(1)).view_as(pairs)
        return Batch(self._form.write(pairs, names[:, :1], names[:, self.size - 1 : self.size]), names)

    def check(self, prompt: Int[Tensor, "B P"], answer: Int[Tensor, "B A"]) -> Int[Tensor, " B"]:
        """Return the outcome of each drawing.

        * `broken_edge`: every node has one place, and an edge joins cells that are not neighbours.
        * `repeated`: a node is drawn twice.
        * `other`: a token is not a node.
        """
        tails, heads, _, _ = self._form.read(prompt)
        place = torch.zeros_like(prompt[:, :1]).repeat(1, len(self.vocabulary))
        cell = torch.arange(self._cells, device=answer.device).expand_as(answer)
        place = place.scatter(1, answer, cell)
        are_nodes = (answer < self._cells).all(1)
        # Of a node that is drawn twice, one place was overwritten.
        distinct = (place.gather(1, answer) == cell).all(1)
        fits = (manhattan(self.size, place.gather(1, tails), place.gather(1, heads)) == 1).all(1)
        kinds = [are_nodes & distinct & fits, are_nodes & distinct, are_nodes]
        return first_outcome(kinds, self.outcomes.index("other"))

    def _joined(self, prompt: Int[Tensor, "B P"]) -> Bool[Tensor, "B N N"]:
        tails, heads, _, _ = self._form.read(prompt)
        joined = torch.zeros(len(prompt), self._cells**2, dtype=torch.bool, device=prompt.device)
        joined = joined.scatter(1, tails * self._cells + heads, True)
        joined = joined.view(len(prompt), self._cells, self._cells)
        return joined | joined.transpose(1, 2)

    def _candidates(
        self, joined: Bool[Tensor, "B N N"], ends: Int[Tensor, "B 2"], drawn: Int[Tensor, "B K"]
    ) -> tuple[Bool[Tensor, "B N"], Bool[Tensor, " B"]]:
        """Return the names that the greedy guesser chooses from for cell K, and where the choice is open.

        Args:
            ends: the names at the ends of the top row.
            drawn: the names of the cells before.
        """
        n, cell = self.size, drawn.shape[1]
        row, column = divmod(cell, n)
        none = torch.zeros_like(joined[:, 0])
        if cell in (0, n - 1):
            return none.scatter(1, ends[:, :1] if cell == 0 else ends[:, 1:], True), none[:, 0]
        undrawn = ~none.scatter(1, drawn, True)
        free = undrawn & ~none.scatter(1, ends[:, 1:], cell < n - 1)
        roomy = (joined & undrawn[:, None]).sum(2) <= (column < n - 1) + (row < n - 1)

        def beside(other: Int[Tensor, "B 1"]) -> Bool[Tensor, "B N"]:
            return joined.gather(1, other[:, :, None].expand(-1, -1, self._cells))[:, 0] & free & roomy

        above = beside(drawn[:, cell - n, None]) if row else none
        left = beside(drawn[:, cell - 1, None]) if column else none
        apart = free & roomy & ~(joined & ~undrawn[:, None]).any(2)
        has_above, has_left = above.any(1), left.any(1)
        names = torch.where(has_above[:, None], above, torch.where(has_left[:, None], left, apart))
        forced = has_above | (has_left if row == n - 1 else none[:, 0]) | (cell == self._cells - 1)
        return names, ~forced

    def decision_mask(self, batch: Batch) -> Bool[Tensor, "B A"]:
        return self._along(batch)[1]

    def _along(self, batch: Batch) -> tuple[Bool[Tensor, "B A N"], Bool[Tensor, "B A"]]:
        """Return the greedy guesser's candidates after each true prefix, and where the choice is open."""
        joined = self._joined(batch.prompt)
        ends = torch.cat(self._form.read(batch.prompt)[2:], 1)
        steps = [self._candidates(joined, ends, batch.answer[:, :cell]) for cell in range(self._cells)]
        names, is_open = zip(*steps, strict=True)
        return torch.stack(names, 1), torch.stack(is_open, 1)

    def fingerprint(self, batch: Batch) -> Int[Tensor, " B"]:
        """Hash the walls of the answer, in the view of the square with the smallest key: without names."""
        tails, heads, _, _ = self._form.read(batch.prompt)
        place = batch.answer.argsort(1)
        ends = place.gather(1, tails), place.gather(1, heads)
        grid = torch.arange(self._cells, device=place.device).view(self.size, self.size)
        keys = []
        for turns in range(4):
            for view in (grid.rot90(turns), grid.rot90(turns).T):
                a, b = (view.flatten()[end] for end in ends)
                keys.append(hash_edges(a.minimum(b), a.maximum(b), self._cells))
        return torch.stack(keys).amin(0)

    def text(self, prompt: Int[Tensor, " P"], answer: Int[Tensor, " A"]) -> str:
        tails, heads, left, right = (x[0].tolist() for x in self._form.read(prompt[None]))
        return star_text(zip(tails, heads, strict=True), left[0], right[0], answer.tolist())

    def parse(self, line: str) -> tuple[list[int], list[int]]:
        edges, left, right, names = parse_star(line)
        verify_tree(self.size, edges, [left, right, *names])
        corners = torch.tensor([[left], [right]])
        prompt = self._form.write(torch.tensor([edges]), corners[:1], corners[1:])
        fits = len(names) == self._cells and self.check(prompt, torch.tensor([names])).item() == 0
        if not fits or (names[0], names[self.size - 1]) != (left, right):
            raise InputError(
                f"the names after = are not a drawing of the maze, row by row, with {left} and {right} at "
                f"the ends of the top row (task.size={self.size}); correct the answer"
            )
        return prompt[0].tolist(), names

    def drawing(self, prompt: Int[Tensor, " P"]) -> dict[str, Any]:
        """Return the graph, with the ends of the top row as start and goal."""
        tails, heads, left, right = (x[0].tolist() for x in self._form.read(prompt[None]))
        return drawing_of(zip(tails, heads, strict=True), left[0], right[0])


@lru_cache(maxsize=8)
def _chances(size: int) -> tuple[float, float]:
    """Return the accuracy of the greedy guesser, of whole drawings and on decisions."""
    task = MazeDrawing(size=size)
    draws, right, decisions = Draws(0, "maze_drawing", "chance"), list[Tensor](), list[Tensor]()
    for _ in range(128 // size**2):  # of large mazes, hardly any is drawn right
        batch = task.sample(_CHANCE_ROWS, draws)
        names, is_open = task._along(batch)
        hits = names.gather(2, batch.answer[:, :, None])[:, :, 0] / names.sum(2)
        decisions.append(hits[is_open])
        joined, ends = task._joined(batch.prompt), torch.cat(task._form.read(batch.prompt)[2:], 1)
        drawn = batch.answer[:, :0]
        for _ in range(size * size):
            candidates, _ = task._candidates(joined, ends, drawn)
            noise = draws.integers(1 << 31, _CHANCE_ROWS, size * size) + 1
            drawn = torch.cat([drawn, (noise * candidates).argmax(1, keepdim=True)], 1)
        right.append(task.check(batch.prompt, drawn) == 0)
    return torch.cat(right).double().mean().item(), torch.cat(decisions).double().mean().item()
