"""Next-token prediction from a damaged prefix."""

from typing import Annotated, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from forethought.models import Model
from forethought.objectives.next_token import NextToken
from forethought.tasks import Batch, Task
from forethought.validation import validated


class MaskedNextToken(NextToken):
    """Masked next-token prediction: each answer token from the prompt and a damaged copy of those before it.

    With prompt x, answer y_1 … y_A and its damaged copy ỹ, drawn anew for every row and step,

        loss = -1/A Σ_i log p(y_i | x, ỹ_<i)

        input     x_1 … x_P  y_1   $    $   y_4  …        here positions 2 and 3 are masked
        target          y_1  y_2  y_3  y_4  y_5  …        never damaged

    Where the token before is missing, no single edge leads to the next token: the model must look
    further back, or plan. Decoded token by token, from an undamaged prefix.

    Source: Frydenlund, "Language Models, Graph Searching, and Supervision Adulteration", ACL 2025
    (2503.10542), token masking. The length of a span is a choice made here.

    Args:
        corruption: `mask` puts the dummy token `$`, `replace` a token drawn from the whole vocabulary.
        positions: `uniform` damages each input token independently; `span` one run of neighbours a row.
        rate: expected share of the answer's A - 1 input tokens that are damaged, in [0, 1].
    """

    @validated
    def __init__(
        self,
        model: Model,
        task: Task,
        corruption: Literal["mask", "replace"] = "mask",
        positions: Literal["uniform", "span"] = "uniform",
        rate: Annotated[float, Field(ge=0, le=1)] = 0.5,
    ) -> None:
        super().__init__(model, task)
        self.corruption, self.positions, self.rate = corruption, positions, rate

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        # The last token is never read, so leave it out of the damaged share.
        damaged = torch.cat([self.damage(batch.answer[:, :-1]), batch.answer[:, -1:]], 1)
        return self.answer_loss(self.answer_logits(Batch(batch.prompt, damaged)), batch)

    def damage(self, tokens: Int[Tensor, "B I"]) -> Int[Tensor, "B I"]:
        if self.corruption == "mask":
            noise = torch.full_like(tokens, self.task.dummy)
        else:
            noise = torch.randint_like(tokens, len(self.task.vocabulary))
        return torch.where(self.damaged(tokens), noise, tokens)

    def damaged(self, tokens: Int[Tensor, "B I"]) -> Bool[Tensor, "B I"]:
        """Return True for each token to damage, on average a share of `rate`."""
        count, length = tokens.shape
        if self.positions == "uniform":
            return torch.rand(count, length, device=tokens.device) < self.rate
        # Random rounding makes spans rate * length long on average. All places are equally likely.
        rounding, place = torch.rand(2, count, 1, device=tokens.device)
        span = (self.rate * length + rounding).floor()
        first = (place * (length - span + 1)).floor()
        position = torch.arange(length, device=tokens.device)
        return (position >= first) & (position < first + span)
