"""Register tokens (MuToR): multi-token prediction by tokens that no other token sees."""

from typing import Annotated

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from forethought.models import Model
from forethought.objectives.base import check_at_most
from forethought.objectives.next_token import NextToken
from forethought.tasks import Batch, Task
from forethought.validation import validated


class RegisterTokens(NextToken):
    """Register tokens (MuToR): next-token prediction, and registers between the tokens predict further ahead.

    With prompt x, answer y_1 … y_A, one learned register r before each answer token, and an offset
    d ~ U{2 … max_offset} drawn for each row,

        loss = (1 - a) L_ntp + a L_reg
        L_reg = -mean over rows and j of log p(y_{j+d-1} | x, y_<j, r at d)        j + d - 1 <= A

        input     x_1 … x_P   r   y_1   r   y_2   r   y_3  …        d = 3
        target          y_1  y_3  y_2  y_4  y_3  y_5  y_4  …
        position        P   P+2  P+1  P+3  P+2  P+4  P+3  …

    A register takes the position of the token that has its target as next token: the position encodes d,
    and no position beyond the answer's is needed. A register sees the tokens before it and itself; no
    token sees it, so it is dropped at inference, which is next-token prediction's. d = 1 would let
    registers follow edges from the token before, as next-token prediction does (the Clever Hans cheat).

    Source: Gerontopoulos et al., "Multi-Token Prediction Needs Registers" (2505.10518), §3; d >= 2 as in
    its star-graph experiments. The loss is averaged over the registers whose target exists.

    Args:
        max_offset: largest d, from 2 to the answer's length.
        register_weight: a, in [0, 1).

    Raises:
        Impossible: the answer is shorter than `max_offset`, or the model's attention cannot be masked.
    """

    any_order = True

    @validated
    def __init__(
        self,
        model: Model,
        task: Task,
        max_offset: Annotated[int, Field(ge=2)] = 3,
        register_weight: Annotated[float, Field(ge=0, lt=1)] = 0.5,
    ) -> None:
        super().__init__(model, task)
        check_at_most(task.answer_length, task, max_offset=max_offset)
        self.max_offset, self.register_weight = max_offset, register_weight
        self.register = nn.Parameter(torch.empty_like(model.embedding.weight[0]).normal_(std=0.02))

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        prompt_length, length = batch.prompt.shape[1], batch.answer.shape[1]
        count = length - 1  # A register before y_A would have no target.
        d = torch.randint(2, self.max_offset + 1, (len(batch), 1), device=batch.prompt.device)
        # Index from 0. A register whose target lies beyond the answer carries no loss, and no token sees it.
        target = torch.arange(count, device=d.device) + d - 1
        exists, target = target < length, target.clamp(max=length - 1)

        # Mask and positions place the registers, so they can be appended to the tokens.
        tokens = torch.cat([batch.prompt, batch.answer[:, :-1]], 1)
        registers = self.register.expand(len(batch), count, -1)
        positions = torch.arange(tokens.shape[1], device=d.device).expand(len(batch), -1)
        positions = torch.cat([positions, prompt_length - 1 + target], 1)
        hidden = self.read(
            torch.cat([self.model.embed(tokens), registers], 1),
            batch.prompt,
            length + count,
            positions=self.skip_padding(positions, batch.prompt),
            attention_mask=self.build_attention_mask(tokens.shape[1], prompt_length),
        )
        logits = self.model.logits(hidden)
        next_token = self.answer_loss(logits[:, :length], batch)
        ahead = batch.answer.gather(1, target).masked_fill(~exists, self.task.dummy)
        register = self.cross_entropy(logits[:, length:], ahead)
        return torch.lerp(next_token, register, self.register_weight)

    def build_attention_mask(self, length: int, prompt_length: int) -> Bool[Tensor, "S S"]:
        """Return the model's mask, extended by a row and a column for each register."""
        tokens = self.model.build_attention_mask(length, prompt_length, self.register.device)
        before = tokens[prompt_length - 1 : -1]
        itself = torch.eye(len(before), dtype=torch.bool, device=tokens.device)
        unseen = itself.new_zeros(length, len(before))
        return torch.cat([torch.cat([tokens, unseen], 1), torch.cat([before, itself], 1)])
