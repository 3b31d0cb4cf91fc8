"""Next-token prediction that also reads whole rows, prompt included, from their end."""

from typing import Annotated

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from forethought.models import Model
from forethought.models.layers import causal_mask
from forethought.objectives.base import flip_written, mean_where
from forethought.objectives.next_token import NextToken
from forethought.tasks import Batch, Task
from forethought.validation import validated


class ReverseAugmented(NextToken):
    """Reverse-augmented prediction: the next token of a row, or of the whole row read from its end.

    With `probability` q, each row's text z = x_1 … x_P y_1 … y_A is turned round as a whole, and trained as
    a text, in which every token but the first carries loss:

        forward     input     x_1 … x_P  y_1  …  y_{A-1}
                    target          y_1  y_2  …  y_A          prompt tokens carry no loss
        reversed    input     y_A      …  y_1  x_P      …  x_2
                    target    y_{A-1}  …  x_P  x_{P-1}  …  x_1

        loss = share of forward rows · mean over their targets + the same for the reversed rows

    It is not the reversed answer of `task.reverse=true`, where the prompt stays in front and the answer
    alone is turned round: that solves the path-star, while this does not (49 % on G(2,5), next-token
    prediction 50 %). A reversed answer that comes before its prompt can only be guessed. What is learned
    there is which prompt belongs to an answer.

    No token tells the direction. None is needed: at a position where forward rows carry loss, they have
    read the end of their prompt. Reversed rows are read under the causal mask, also with
    `model.mask=prefix`, as they would see what they predict. Decoded as in next-token prediction.

    Source: Kitouni et al., "The Factorization Curse" (2406.05183), the baseline "AR w/ reverse", which adds
    the reversed sequences to the training set. Which of their tokens carry loss was not found.

    Args:
        probability: q.
    """

    @validated
    def __init__(
        self, model: Model, task: Task, probability: Annotated[float, Field(ge=0, le=1)] = 0.5
    ) -> None:
        super().__init__(model, task)
        self.probability = probability

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        prompt, answer, dummy = batch.prompt, batch.answer, self.task.dummy
        turned = torch.rand(len(batch), 1, device=prompt.device) < self.probability
        text = torch.cat([prompt, answer], 1)
        flipped = flip_written(text, dummy)
        read = flipped.where(turned, text)[:, :-1]
        padding = self.padding(prompt, read.shape[1])
        hidden = self.model(
            read,
            prompt.shape[1],
            padding=None if padding is None else padding & ~turned,  # a flipped text begins at once
            attention_mask=self.build_attention_mask(turned, read.shape[1], prompt.shape[1]),
        )
        logits = self.model.logits(hidden)
        backward = self.cross_entropy(logits, flipped[:, 1:], "none")
        targets, logits = self.task.targets(batch), logits[:, -answer.shape[1] :]
        if targets is None:
            forward = self.cross_entropy(logits, answer, "none")
        else:
            forward = F.cross_entropy(logits.mT, targets.to(logits).mT, reduction="none")
        share = turned.to(logits.dtype).mean()
        return torch.lerp(
            mean_where(forward, (answer != dummy) & ~turned),
            mean_where(backward, (flipped[:, 1:] != dummy) & turned),
            share,
        )

    def build_attention_mask(
        self, turned: Bool[Tensor, "B 1"], length: int, prompt_length: int
    ) -> Bool[Tensor, "B T T"] | None:
        """Return the model's own mask for forward rows, else the causal one; None is causal for all."""
        if self.model.mask == "causal":
            return None
        own = self.model.build_attention_mask(length, prompt_length, turned.device)
        return causal_mask(length, device=turned.device).where(turned[..., None], own)
