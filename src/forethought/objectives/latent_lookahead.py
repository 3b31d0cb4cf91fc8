"""Latent lookahead: latent slots, refined before each token, that predict it and the tokens after it."""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from forethought.models import Model
from forethought.objectives.base import Answer, Objective, Prefix, Prompt
from forethought.tasks import Batch, Task
from forethought.validation import validated


class LatentLookahead(Objective):
    """Latent lookahead: each token, from latent slots that are refined to predict it and those after it.

    Before answer token y_i stands a block of τ slots, which see the prompt, y_<i and each other. The model
    reads the same learned vector in all slots, and then, τ times, its own last states in their place. With
    the final states s_{i,1} … s_{i,τ} of the slots, and h_{i-1} of the token before y_i, which sees no slot,

        loss = -1/A Σ_i log p(y_i | h_{i-1})
               + weight · (mean over i and j of -log p(y_{i+j-1} | s_{i,j}))          i + j - 1 <= A

        τ = 2      tokens                    before y_1     before y_2     before y_3   …
        input      x_1 … x_P  y_1  y_2  …    s_1,1 s_1,2    s_2,1 s_2,2    s_3,1 s_3,2
        target           y_1  y_2  y_3        y_1   y_2      y_2   y_3      y_3   y_4
        position   1   … P    P+1  P+2       P+1   P+2      P+2   P+3      P+3   P+4

    A slot takes the position of the token that it predicts. No slot sees another block, so all blocks are
    learned in parallel, in τ + 1 passes. A slot whose target lies beyond the answer carries no loss, but the
    others of its block see it.

    Evaluation and decoding read y_i from the first slot of its block. Decoded token by token: each costs
    τ + 1 passes over the tokens before it, without a cache.

    Source: Noci et al., "Thinking into the Future: Latent Lookahead Training for Transformers" (2603.20219).
    We know its abstract and reviews: at selected positions, last states are fed back τ times, slot j predicts
    the j-th next token, and the mask is as above. Our reading: a learned vector as first input, states after
    the last norm, gradients through all passes, a loss after the last pass alone and with equal weights, the
    first slot as the token's prediction, and the first answer tokens as the selected positions.

    Args:
        slots: τ, slots of a block.
        blocks: answer tokens, from the first, that have a block before them; None: all. The tokens after
            these are read from the state of the token before them.
        weight: weight of the slots' loss.

    Raises:
        Impossible: the model's attention cannot be masked.
    """

    any_order = True

    @validated
    def __init__(
        self,
        model: Model,
        task: Task,
        slots: PositiveInt = 3,
        blocks: PositiveInt | None = None,
        weight: PositiveFloat = 1.0,
    ) -> None:
        super().__init__(model, task)
        self.slots, self.blocks, self.weight = slots, blocks, weight
        self.slot = nn.Parameter(torch.empty_like(model.embedding.weight[0]).normal_(std=0.02))

    @classmethod
    @validated
    def extra_positions(cls, task: Task, slots: PositiveInt = 3, **options: Any) -> int:
        return slots - 1

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        states, slots = self.states(batch.prompt, batch.answer[:, :-1])
        next_token = self.answer_loss(self.model.logits(states), batch)
        none = batch.answer.new_full((len(batch), self.slots - 1), self.task.dummy)
        target = torch.cat([batch.answer, none], 1).unfold(1, self.slots, 1)[:, : slots.shape[1]]
        return next_token + self.weight * self.cross_entropy(self.model.logits(slots), target)

    def states(
        self, prompt: Int[Tensor, "B P"], answer: Int[Tensor, "B R"], first: int = 0
    ) -> tuple[Float[Tensor, "B N D"], Float[Tensor, "B K S D"]]:
        """Return the states of the last N tokens, and of the S slots of the K blocks after these tokens.

        Args:
            answer: R tokens to read.
            first: answer tokens that need no prediction; N = R + 1 - first.
        """
        tokens = torch.cat([prompt, answer], 1)
        length, last = tokens.shape[1], answer.shape[1] + 1 - first
        count = last if self.blocks is None else max(0, min(self.blocks - first, last))
        column = torch.arange(length, device=prompt.device)
        reader = column[length - last : length - last + count]
        ahead = torch.arange(1, self.slots + 1, device=prompt.device)
        column = torch.cat([column, (reader[:, None] + ahead).flatten()])
        positions = self.skip_padding(column, prompt)
        attention_mask = self.build_attention_mask(length, prompt.shape[1], reader)
        embedded = self.model.embed(tokens)
        slots = self.slot.expand(len(prompt), count * self.slots, -1)
        for _ in range(self.slots + 1 if count else 1):
            hidden = self.read(
                torch.cat([embedded, slots], 1),
                prompt,
                last + slots.shape[1],
                positions=positions,
                attention_mask=attention_mask,
            )
            slots = hidden[:, last:]
        return hidden[:, :last], slots.unflatten(1, (count, self.slots))

    def build_attention_mask(
        self, length: int, prompt_length: int, reader: Int[Tensor, " K"]
    ) -> Bool[Tensor, "T T"]:
        """Return the model's mask, extended by a block of slots after each of the columns `reader`."""
        tokens = self.model.build_attention_mask(length, prompt_length, reader.device)
        block = reader.repeat_interleave(self.slots)
        unseen = tokens.new_zeros(length, len(block))
        return torch.cat(
            [torch.cat([tokens, unseen], 1), torch.cat([tokens[block], block[:, None] == block], 1)]
        )

    def logits(
        self, prompt: Int[Tensor, "B P"], answer: Int[Tensor, "B R"], first: int = 0
    ) -> Float[Tensor, "B N V"]:
        """Return the logits of the answer tokens after the `first` ones; arguments as of `states`."""
        states, slots = self.states(prompt, answer, first)
        return self.model.logits(torch.cat([slots[:, :, 0], states[:, slots.shape[1] :]], 1))

    def answer_logits(self, batch: Batch) -> Float[Tensor, "B A V"]:
        return self.logits(batch.prompt, batch.answer[:, :-1])

    def decode(
        self, prompt: Prompt, length: int, prefix: Prefix | None = None, temperature: float = 0.0
    ) -> Answer:
        answer = prompt[:, :0] if prefix is None else prefix
        while answer.shape[1] < length:
            logits = self.logits(prompt, answer, answer.shape[1])
            answer = torch.cat([answer, self.sample(logits, temperature)], 1)
        return answer
