"""The path-star graph, asked for the first hop alone: one forward pass must plan the whole path."""

from dataclasses import field
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from forethought.tasks.base import Batch
from forethought.tasks.graph import star_text
from forethought.tasks.graph_prompt import NONE
from forethought.tasks.path_star import PathStar
from forethought.validation import validated_dataclass


@validated_dataclass
class FirstHop(PathStar):
    """First node after the start on the way to the goal of a path-star graph. G(2, 3), N = 10:

        graph    2,8|5,2|5,9|9,3/5,8=
        prompt   2 8 | 5 2 | 5 9 | 9 3 / 5 8 =
        answer                                 2      the decision: 2 or 9? (chance 1/d)

    From the goal, l - 2 look-ups lead back to the first hop: these are the latent steps.

    The objective `decision_only` trains the same token of `path_star`, with the same information: it
    reads the start once more, as the first answer token, and predicts the hop from there. It leaves all
    other tokens of the path untrained, so that only `decision_accuracy` counts. Here the hop is the whole
    answer: no later token is left to cheat from, every objective applies, and `accuracy` counts.

    The text form is that of `path_star`, with the whole path, so that its files can be read.

    Source: Xu, Jettkant & Ruis, "Depth Ceiling" (2604.06427): 8 layers and 1.6 M parameters, trained from
    scratch, learn up to 3 latent steps and fail at 4. Read from its abstract, where the exact sizes and
    the count of latent steps are not given.

    Args: as of `PathStar`, without `reverse` and `scratchpad`.
    """

    reverse: bool = field(default=False, init=False)
    scratchpad: Literal["none"] = field(default="none", init=False)

    outcomes: ClassVar = ("right", "wrong_arm", "other")
    following: ClassVar = None

    @property
    def answer_length(self) -> int:
        return 1

    @property
    def end(self) -> None:
        return None

    def _answer(
        self, prompt: Int[Tensor, "B P"], start: Int[Tensor, "B 1"], arm: Int[Tensor, "B K"]
    ) -> Int[Tensor, "B 1"]:
        return self._form.tokens(arm[:, :1], start)

    def check(self, prompt: Int[Tensor, "B P"], answer: Int[Tensor, "B 1"]) -> Int[Tensor, " B"]:
        """Return the outcome of each hop. `wrong_arm`: the first node of another arm."""
        arms, (_, _, start, goal) = self._arms(prompt), self._graph(prompt)
        hop = self._form.nodes(answer, start)
        is_first, is_gold = (arms[:, :, 0] == hop) & (hop != NONE), (arms == goal[:, None]).any(2)
        return torch.where((is_first & is_gold).any(1), 0, torch.where(is_first.any(1), 1, 2))

    def decision_mask(self, batch: Batch) -> Bool[Tensor, "B 1"]:
        return torch.ones_like(batch.answer, dtype=torch.bool)

    def distract(self, batch: Batch) -> None:
        return None

    def text(self, prompt: Int[Tensor, " P"], answer: Int[Tensor, " A"]) -> str:
        """Return the line of `path_star`, with the whole path along the answer's arm."""
        edges, start, goal = self._listed(prompt)
        arms, hop = self._arms(prompt[None])[0], self._form.nodes(answer[None], torch.tensor([[start]]))[0]
        arm = arms[(arms[:, 0] == hop).int().argmax()].tolist()
        return star_text(edges, start, goal, [start, *(node for node in arm if node != NONE)])
