"""Myopic next-token prediction: the negative control, which cannot be trained to plan."""

import inspect
from typing import Any

from jaxtyping import Float
from torch import Tensor

from forethought.errors import Impossible
from forethought.objectives.next_token import NextToken
from forethought.tasks import Batch, Task
from forethought.validation import validated


class Myopic(NextToken):
    """Myopic next-token prediction: each answer token, with no gradient to the states of earlier positions.

    The loss, its value and the decoding are those of next-token prediction,

        loss = -1/A Σ_i log p(y_i | x, y_<i)

    but where position t attends to another position s, it does so through W_K stopgrad(h_s) and
    W_V stopgrad(h_s), with h_s the input of the attention. So the loss of y_i shapes the hidden state at
    its own position and none before it: a position serves later tokens by luck alone. The *myopia gap* is
    this loss on the true answers minus that of next-token prediction.

    Source: Wu et al., "Do Language Models Plan Ahead for Future Tokens?" (2404.00859), §3; W_K and W_V
    keep their gradient, as in its published code. There the prompt is predicted too; here, as in every
    objective, the answer alone is, so no loss shapes the prompt's hidden states but the last.

    Raises:
        Impossible: the model cannot detach its keys and values.
    """

    @validated
    def __init__(self, model: Any, task: Task) -> None:
        super().__init__(model, task)
        if "myopic" not in inspect.signature(type(model).forward).parameters:
            raise Impossible(
                f"model: {type(model).__name__} has no attention whose past can be detached; "
                "use gpt or looped_gpt"
            )

    def answer_hidden(self, batch: Batch) -> Float[Tensor, "B A D"]:
        inputs = self.inputs(batch.prompt, batch.answer[:, :-1])
        return self.model(inputs, batch.prompt.shape[1], myopic=True)[:, -batch.answer.shape[1] :]
