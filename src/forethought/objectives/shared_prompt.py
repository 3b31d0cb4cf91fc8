"""A prompt that a model reads once for several answers."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from forethought.models.base import Model, ModelInput
from forethought.models.layers import Cache


class SharedPrompt:
    """The state of a model after B prompts, for inputs that begin with them.

    What it returns is what the model would return for the whole input, up to rounding. Without gradients.
    It holds the memory of one more cache.

    Args:
        prompt: the prompts.
        padding: where they are padded; None: nowhere.
        room: tokens of the longest input that is read, prompt included.
    """

    def __init__(
        self, model: Model, prompt: Int[Tensor, "B P"], padding: Bool[Tensor, "B P"] | None, room: int
    ) -> None:
        self.model, self.prompt, self.padding, self.room = model, prompt, padding, room
        self.cache: Cache | None = None
        self.last: Float[Tensor, "B 1 D"]

    def begins(self, inputs: ModelInput, last: int, cache: Cache | None) -> bool:
        """Return True if `read` can serve these arguments."""
        length = self.prompt.shape[1]
        return (
            self.model.mask != "full"  # in which the prompt sees the answer
            and not torch.is_grad_enabled()
            and not inputs.is_floating_point()
            and inputs.shape[1] <= self.room
            and last <= inputs.shape[1] - length + 1
            and (cache is None or cache.room <= self.room)
            and torch.equal(inputs[:, :length], self.prompt)
        )

    def read(self, inputs: ModelInput, last: int, cache: Cache | None) -> Float[Tensor, "B L D"]:
        """Return the last L = `last` hidden states of inputs that begin with the prompt.

        Args:
            cache: an empty one, which then holds the inputs; or None.
        """
        length = self.prompt.shape[1]
        if self.cache is None:  # the first of these inputs
            self.cache = self.model.init_cache(len(self.prompt), self.room)
            self.last = self.model(self.prompt, length, self.cache, self.padding, last=1)
        state = self.cache.copy()
        if cache is not None:
            vars(cache).update(vars(state))
            state = cache
        rest = inputs[:, length:]
        if not rest.shape[1]:
            return self.last
        hidden = self.model(rest, length, state, last=min(last, rest.shape[1]))
        return torch.cat([self.last, hidden], 1)[:, -last:]
