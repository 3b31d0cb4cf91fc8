"""A path through a maze, a random spanning tree of a square lattice, from its shuffled list of edges."""

from functools import lru_cache
from itertools import pairwise
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
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
from forethought.tasks.lattice import doors_of, draw_mazes, manhattan, tree_paths, verify_tree
from forethought.validation import validated_dataclass

_CHANCE_ROWS = 1000
"""Rows of a batch from which `chance` is estimated. Its standard error is at most 0.006."""


@validated_dataclass
class Maze(Task):
    """Path from an origin to a target in a maze of n × n cells, n = `size`.

    The maze is a spanning tree of the lattice, drawn by a randomised depth-first search, so that exactly one
    path joins two cells. The prompt lists its n² - 1 edges in random order, each in a random direction, the
    origin and the target, which are any two cells. The answer is the path, both included. n = 3:

        maze     0 - 1   2        text     0,3|4,1|6,7|0,1|5,8|7,4|7,8|2,5/4,2=4,7,8,5,2
                 |   |   |        prompt   0 3 | 4 1 | 6 7 | … | 2 5 / 4 2 =
                 3   4   5        answer                                     4 7 8 5 2 end
                     |   |        decisions                                    ^ ^
                 6 - 7 - 8        1 or 7? then 6 or 8?

    The first token is a copy of the origin. A decision is a step after which several neighbours are open,
    the cell before not counted, and none of them is the target. All other tokens follow from one edge.

    Cells are numbered by row, so that their places are known. A policy that cannot plan may therefore prefer
    the neighbour that is nearer to the target (in rows and columns). This is `chance`: at n = 5, 55 % of the
    paths and 65 % of the decisions are right, where a random open neighbour has 42 % and 49 %.

    The stratum `length` k has the paths of k n to (k + 1) n - 1 edges, because accuracy of the whole path
    mixes short paths with long ones.

    Source: Nolte et al., "Transformers Can Navigate Mazes With Multi-Step Prediction" (2412.05117), of the
    authors of MLM-U, with 100,000 mazes of the package maze-dataset of 5 × 5 to 30 × 30. At 10 × 10, 46 % of
    the paths are right after training on the next token, and 100 % after MLM-U. The tokens are those of the
    source, except for the names of cells and the markers around each part of the prompt.

    Args:
        size: cells on a side n.
    """

    size: int = Field(default=4, ge=3, le=30)

    outcomes: ClassVar = ("right", "wrong_branch", "broken_edge", "other")
    following: ClassVar = "wrong_branch"

    @property
    def _cells(self) -> int:
        return self.size**2

    @property
    def _form(self) -> GraphPrompt:
        return graph_prompt(self._cells, self._cells - 1, closed=True)

    @property
    def vocabulary(self) -> tuple[str, ...]:
        return self._form.vocabulary

    @property
    def end(self) -> int:
        return self.dummy - 1

    @property
    def prompt_length(self) -> int:
        return self._form.length

    @property
    def answer_length(self) -> int:
        return self._cells + 1

    @property
    def chance(self) -> float:
        """Accuracy of a walk that never turns back, and takes the open neighbour nearest to the target.

        The walk takes a random one of several nearest. Estimated from rows with a fixed seed.
        """
        return _chances(self.size)[0]

    @property
    def decision_chance(self) -> float:
        return _chances(self.size)[1]

    def sample(self, count: int, draws: Draws) -> Batch:
        pairs, came_from, depth = draw_mazes(self.size, count, draws)
        origin, target = draws.permutation(count, self._cells, 2).split(1, 1)
        path, edges = tree_paths(came_from, depth, origin, target)
        column = torch.arange(self._cells, device=path.device)
        answer = F.pad(path.masked_fill(column > edges, self.dummy), (0, 1), value=self.dummy)
        return Batch(self._form.write(pairs, origin, target), answer.scatter(1, edges + 1, self.end))

    def _doors(self, prompt: Int[Tensor, "B P"], path: Int[Tensor, "B K"]) -> Int[Tensor, "B K 4"]:
        """Return the open neighbours of each cell of a path, without the cell before; N for none."""
        tails, heads, _, _ = self._form.read(prompt)
        doors = F.pad(doors_of(self.size, tails, heads), (0, 0, 0, 1), value=self._cells)
        cells = path.clamp(max=self._cells)
        doors = doors.gather(1, cells[:, :, None].expand(-1, -1, 4))
        before = F.pad(cells[:, :-1], (1, 0), value=self._cells)
        return doors.masked_fill(doors == before[:, :, None], self._cells)

    def check(self, prompt: Int[Tensor, "B P"], answer: Int[Tensor, "B A"]) -> Int[Tensor, " B"]:
        """Return the outcome of each path.

        * `wrong_branch`: the path follows edges to a dead end that is not the target. Other cells may come
          after it, because a model that has never seen a dead end goes back, or jumps to the target.
        * `broken_edge`: other cells from the origin on.
        * `other`: the path does not begin at the origin, or contains a token that is not a cell.
        """
        _, _, origin, target = self._form.read(prompt)
        answer = self.trim(answer)
        doors = self._doors(prompt, answer)
        # In a tree, a path that never turns back enters no cell twice.
        walked = (doors[:, :-1] == answer[:, 1:, None]) & (answer[:, 1:, None] < self._cells)
        walked = walked.any(2).int().cumprod(1).sum(1, keepdim=True)
        is_cell, is_end = answer < self._cells, answer == self.end
        ended = is_end.any(1, keepdim=True)
        whole = (is_cell | (is_end.cumsum(1) > 0)).all(1, keepdim=True) & (answer[:, :1] == origin)
        steps = is_cell.sum(1, keepdim=True) - 1
        last = answer.gather(1, walked)
        is_dead_end = (doors.gather(1, walked[:, :, None].expand(-1, -1, 4)) == self._cells).all(2)
        right = whole & ended & (walked == steps) & (last == target)
        wrong_branch = whole & is_dead_end & (last != target)
        kinds = [right[:, 0], wrong_branch[:, 0], whole[:, 0]]
        return first_outcome(kinds, self.outcomes.index("other"))

    def _options(self, batch: Batch) -> tuple[Int[Tensor, "B K 4"], Bool[Tensor, "B K"]]:
        """Return the open neighbours after each token but the last, and where the next is a decision."""
        _, _, _, target = self._form.read(batch.prompt)
        doors = self._doors(batch.prompt, batch.answer[:, :-1])
        decides = ((doors < self._cells).sum(2) > 1) & (doors != target[:, :, None]).all(2)
        return doors, decides & (batch.answer[:, 1:] < self._cells)

    def decision_mask(self, batch: Batch) -> Bool[Tensor, "B A"]:
        return F.pad(self._options(batch)[1], (1, 0))

    def distract(self, batch: Batch) -> Int[Tensor, "B A"]:
        """Return the path that errs at the last decision, then takes the first open side, to a dead end.

        A row without a decision has no such path, and gets one without meaning.
        """
        tails, heads, _, _ = self._form.read(batch.prompt)
        doors = F.pad(doors_of(self.size, tails, heads), (0, 0, 0, 1), value=self._cells)
        gold = batch.answer
        column = torch.arange(gold.shape[1], device=gold.device)
        place = (self.decision_mask(batch) * column).amax(1, keepdim=True)
        path = [torch.full_like(gold[:, :1], self._cells), gold[:, :1]]
        for k in range(1, self._cells):
            options = doors.gather(1, path[-1][:, :, None].expand(-1, -1, 4))[:, 0]
            avoided = path[-2].where(place != k, gold[:, k : k + 1])
            # At the decision, the way back is closed as well.
            is_open = (options != avoided) & (options != path[-2]) & (options < self._cells)
            chosen = options.masked_fill(~is_open, self._cells)
            turn = chosen.gather(1, is_open.int().argmax(1, keepdim=True))
            path.append(gold[:, k : k + 1].where(place > k, turn))
        cells = F.pad(torch.cat(path[1:], 1), (0, 1), value=self._cells)
        length = (cells < self._cells).sum(1, keepdim=True)
        return cells.masked_fill(cells == self._cells, self.dummy).scatter(1, length, self.end)

    def strata(self, batch: Batch) -> dict[str, Int[Tensor, " B"]]:
        return {"length": ((batch.answer < self._cells).sum(1) - 1) // self.size}

    @property
    def strata_sizes(self) -> dict[str, int]:
        return {"length": self.size}

    def fingerprint(self, batch: Batch) -> Int[Tensor, " B"]:
        """Hash the set of edges alone, in any order and direction: a maze is held out with all its paths."""
        tails, heads, _, _ = self._form.read(batch.prompt)
        return hash_edges(tails.minimum(heads), tails.maximum(heads), self._cells)

    def text(self, prompt: Int[Tensor, " P"], answer: Int[Tensor, " A"]) -> str:
        tails, heads, origin, target = (x[0].tolist() for x in self._form.read(prompt[None]))
        path = answer[answer < self._cells].tolist()
        return star_text(zip(tails, heads, strict=True), origin[0], target[0], path)

    def parse(self, line: str) -> tuple[list[int], list[int]]:
        edges, origin, target, path = parse_star(line)
        verify_tree(self.size, edges, [origin, target, *path])
        far = (manhattan(self.size, *torch.tensor(edges).T) != 1).nonzero()
        if len(far):
            tail, head = edges[far[0]]
            raise InputError(
                f"the edge {tail},{head} joins cells that are not neighbours (task.size={self.size}); "
                "correct the maze"
            )
        known = {*edges, *(edge[::-1] for edge in edges)}
        simple = len({*path}) == len(path) > 1 and all(step in known for step in pairwise(path))
        if not simple or (path[0], path[-1]) != (origin, target):
            wrong = ",".join(map(str, path))
            raise InputError(f"{wrong} is not the path from {origin} to {target}; correct the answer")
        ends = torch.tensor([[origin], [target]])
        prompt = self._form.write(torch.tensor([edges]), ends[:1], ends[1:])
        return prompt[0].tolist(), [*path, self.end]

    def drawing(self, prompt: Int[Tensor, " P"]) -> dict[str, Any]:
        tails, heads, origin, target = (x[0].tolist() for x in self._form.read(prompt[None]))
        return drawing_of(zip(tails, heads, strict=True), origin[0], target[0])


@lru_cache(maxsize=16)
def _chances(size: int) -> tuple[float, float]:
    """Return the accuracy of the policy of `Maze.chance`, of whole paths and on decisions."""
    task = Maze(size=size)
    draws, paths, decisions = Draws(0, "maze", "chance"), list[Float[Tensor, " B"]](), list[Tensor]()
    for _ in range(60 // size):  # of long paths, hardly any is right
        batch = task.sample(_CHANCE_ROWS, draws)
        doors, decides = task._options(batch)
        target = task._form.read(batch.prompt)[3][:, :, None]
        distance = manhattan(size, doors, target).masked_fill(doors == size * size, 2 * size)
        nearest = distance == distance.amin(2, keepdim=True)
        hits = (nearest & (doors == batch.answer[:, 1:, None])).any(2) / nearest.sum(2)
        paths.append(hits.where(decides, 1.0).prod(1))
        decisions.append(hits[decides])
    return torch.cat(paths).double().mean().item(), torch.cat(decisions).double().mean().item()
