"""Next-token prediction with teacher forcing."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from forethought.models.base import ModelInput
from forethought.objectives.base import Answer, Objective, Prefix, Prompt
from forethought.tasks import Batch


class NextToken(Objective):
    """Next-token prediction: each answer token from the prompt and the true tokens before it.

    With prompt x and answer y_1 … y_A,

        loss = -1/A Σ_i log p(y_i | x, y_<i)

        input     x_1 … x_P  y_1  …  y_{A-1}
        target          y_1  y_2  …  y_A            prompt tokens carry no loss

    Decoded token by token: the model reads its own answer.

    Where several tokens are right, the loss is the cross-entropy of the task's distribution over them.

    Source: Bachmann & Nagarajan, "The Pitfalls of Next-Token Prediction" (2403.06963), §2.
    """

    next_token_layout = True

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        return self.answer_loss(self.answer_logits(batch), batch)

    def answer_logits(self, batch: Batch) -> Float[Tensor, "B A V"]:
        return self.next_logits(self.answer_hidden(batch))

    def answer_hidden(self, batch: Batch) -> Float[Tensor, "B A D"]:
        """Return the hidden states of the positions whose next token is an answer token."""
        inputs = self.inputs(batch.prompt, batch.answer[:, :-1])
        return self.read(inputs, batch.prompt, batch.answer.shape[1])

    def inputs(self, prompt: Int[Tensor, "B P"], answer: Int[Tensor, "B S"]) -> ModelInput:
        """Return the input of the model that holds the prompt and the first S answer tokens."""
        return torch.cat([prompt, answer], 1)

    def next_logits(self, hidden: Float[Tensor, "B S D"]) -> Float[Tensor, "B S V"]:
        """Return the logits of the token after each position."""
        return self.model.logits(hidden)

    def decode(
        self, prompt: Prompt, length: int, prefix: Prefix | None = None, temperature: float = 0.0
    ) -> Answer:
        answer = prompt[:, :0] if prefix is None else prefix
        inputs = self.inputs(prompt, answer)
        cache = self.model.init_cache(len(prompt), inputs.shape[1] + length - answer.shape[1])
        while answer.shape[1] < length:
            hidden = self.read(inputs, prompt, 1, cache)
            inputs = self.sample(self.next_logits(hidden), temperature)
            answer = torch.cat([answer, inputs], 1)
        return answer
