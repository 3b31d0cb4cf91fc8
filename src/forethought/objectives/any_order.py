"""Any-order autoregression (σ-GPT): next-token prediction of a shuffled answer."""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from forethought.errors import InputError
from forethought.models import Model
from forethought.models.layers import Cache
from forethought.objectives.base import Answer, Objective, Prefix, Prompt
from forethought.tasks import Batch, Task
from forethought.validation import validated


class AnyOrder(Objective):
    """Any-order prediction (σ-GPT): each answer token, in a random order, from those before it in that order.

    With σ a permutation of the A answer positions, drawn anew for every row,

        loss = -1/A Σ_i log p(y_σi | x, y_σ1 … y_σ(i-1), σ1 … σi)

        input     x_1 … x_P   y_σ1  …  y_σ(A-1)
        stands at 1   … P     P+σ1  …  P+σ(A-1)     the model's own positions
        next at   2   … P+σ1  P+σ2  …  P+σA         an embedding of this objective, added to the input
        target          y_σ1  y_σ2  …  y_σA         prompt tokens carry no loss and stay in order

    Attention is causal in the order of reading, so a token is predicted from any subset of the others.
    Decoded from left to right, or from right to left; a `prefix` is read first.

    `left_to_right` is evaluated like next-token prediction, from the true tokens before. From right to
    left these are unread: evaluation then reads each token's logits from the prompt alone.

    Source: Pannatier et al., "σ-GPTs" (2404.09562). Their code concatenates the encodings of both positions,
    each half as wide as the model: learned ones for text, sinusoids for other tasks. Here the encodings
    are added, and the model's own are those of `model.positions`.

    Args:
        order: order of decoding, `left_to_right` or `right_to_left`. Training does not depend on it.

    Raises:
        Impossible: the model takes no positions.
        InputError: `generate` is called for a longer sequence than that of `task`.
    """

    any_order = True

    @validated
    def __init__(
        self,
        model: Model,
        task: Task,
        order: Literal["left_to_right", "right_to_left"] = "left_to_right",
    ) -> None:
        super().__init__(model, task)
        self.order = order
        self.teacher_forced = order == "left_to_right"
        size = task.prompt_length + task.answer_length
        self.next_position = nn.Embedding(size, model.width)
        nn.init.normal_(self.next_position.weight, std=0.02)

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        order = torch.rand(batch.answer.shape, device=batch.answer.device).argsort(1)
        shuffled = self.task.fill(batch.answer).gather(1, order)  # padding would tell the length
        return self.cross_entropy(self.logits(batch.prompt, shuffled[:, :-1], order), shuffled)

    def logits(
        self, prompt: Int[Tensor, "B P"], shuffled: Int[Tensor, "B R"], order: Int[Tensor, "B N"]
    ) -> Float[Tensor, "B N V"]:
        """Return the logits of the answer tokens at the positions `order`, of which R = N - 1 are read."""
        length = prompt.shape[1]
        at = torch.arange(length, device=prompt.device).expand_as(prompt)
        tokens, at = torch.cat([prompt, shuffled], 1), torch.cat([at, length + order], 1)
        return self.model.logits(self.hidden(order.shape[1], tokens, at, prompt))

    def hidden(
        self,
        count: int,
        tokens: Int[Tensor, "B T"],
        at: Int[Tensor, "B U"],
        prompt: Prompt,
        cache: Cache | None = None,
    ) -> Float[Tensor, "B N D"]:
        """Return the hidden states of the last N = `count` tokens.

        Args:
            at: columns of the tokens, then that of the next token: U = T + 1.
        """
        at = self.skip_padding(at, prompt)
        embedded = self.model.embed(tokens) + self.next_position(at[:, 1:])
        return self.read(embedded, prompt, count, cache, positions=at[:, :-1])

    def answer_logits(self, batch: Batch) -> Float[Tensor, "B A V"]:
        order = torch.arange(batch.answer.shape[1], device=batch.answer.device).expand_as(batch.answer)
        if self.teacher_forced:
            return self.logits(batch.prompt, self.task.fill(batch.answer)[:, :-1], order)
        unread = batch.answer[:, :0]
        return torch.cat([self.logits(batch.prompt, unread, first) for first in order.split(1, 1)], 1)

    def decode(
        self, prompt: Prompt, length: int, prefix: Prefix | None = None, temperature: float = 0.0
    ) -> Answer:
        total = prompt.shape[1] + length
        if total > self.next_position.num_embeddings:
            raise InputError(
                f"a sequence of {total} tokens: out of range of AnyOrder's learned positions; "
                f"use a task of at most {self.next_position.num_embeddings} tokens"
            )
        read = prompt if prefix is None else torch.cat([prompt, prefix], 1)
        unread = list(range(read.shape[1], total))
        order = [*range(read.shape[1]), *(unread if self.order == "left_to_right" else unread[::-1])]
        at = torch.tensor(order, device=prompt.device).expand(len(prompt), total)
        sequence = torch.cat([read, read.new_zeros(len(read), len(unread))], 1)
        cache = self.model.init_cache(len(prompt), total)
        start = 0
        for stop in range(read.shape[1], total):
            hidden = self.hidden(1, read, at[:, start : stop + 1], prompt, cache)
            read = self.sample(self.model.logits(hidden), temperature)
            sequence[:, order[stop]] = read[:, 0]
            start = stop
        return sequence[:, prompt.shape[1] :]
