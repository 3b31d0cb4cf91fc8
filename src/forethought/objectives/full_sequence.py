"""Next-token prediction of the prompt and the answer."""

import torch
from jaxtyping import Float
from torch import Tensor

from forethought.objectives.next_token import NextToken
from forethought.tasks import Batch


class FullSequence(NextToken):
    """Full sequence: each token of prompt and answer, from the true tokens before it.

    With z = x_1 … x_P y_1 … y_A, as in language modelling,

        loss = -1/(P + A - 1) Σ_t log p(z_t | z_<t),   t = 2 … P + A

        input     x_1  …  x_P  y_1  …  y_{A-1}
        target    x_2  …  y_1  y_2  …  y_A            every token but the first

    Where the edges of a prompt are random, its terms cannot fall below their entropy. A prompt token that
    saw its successor would copy it: the mask must be causal. Decoded as in next-token prediction.

    Source: the loss that Bachmann & Nagarajan (2403.06963), §2, restrict to the answer. That the loss on the
    prompt lets a Transformer plan is claimed in 2602.19980 (read from a digest).
    """

    masks = ("causal",)

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        tokens = torch.cat([batch.prompt, batch.answer], 1)
        read, target = tokens[:, :-1], tokens[:, 1:]
        logits = self.next_logits(self.read(read, batch.prompt))
        # Nothing is predicted from padding.
        return self.cross_entropy(logits, target.masked_fill(read == self.task.dummy, self.task.dummy))
