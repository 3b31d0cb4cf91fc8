"""Belief State Transformer: a forward and a backward encoder that meet over every gap."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from forethought.models import Model
from forethought.objectives.next_token import NextToken
from forethought.tasks import Batch, Task
from forethought.validation import validated


class BeliefState(NextToken):
    """Belief State Transformer: next and previous token of each gap, from the prefix and suffix around it.

    The sequence z is the prompt x, the answer y and an end token (the task's dummy `$`), T = P + A + 1 in
    all. F is the model, B has its architecture, weights of its own and the same token embedding:

        n, p = head(F(z_1 … z_t), B(z_s … z_T))
        loss = -1/2 mean of log n(z_{t+1}) + log p(z_{s-1})    over all pairs P <= t, t + 2 <= s <= T

        F reads   x_1 … x_P  y_1  …  y_{A-1}        prompt tokens carry no loss
        B reads   $  y_A  …  y_2                    prompt tokens are in no suffix

    The head runs over A (A + 1) / 2 pairs a row, yet memory stays linear in the encoders' states: one
    prefix is paired with all of its suffixes at a time, and backward recomputes the pairs.

    Decoded token by token with n alone and the empty suffix, for which B reads `$` alone.

    Source: Hu et al., "The Belief State Transformer" (2410.23506), §2; gaps of at least 2, as in its
    path-star experiments. Their code has an output layer of its own, not tied to the embedding. Here n and
    p take the model's output layer, which `gpt` ties. Their encoders have RMSNorm, SwiGLU and rotary
    positions; here encoders are as the model is, and the head ends with a LayerNorm.
    """

    @validated
    def __init__(self, model: Model, task: Task) -> None:
        super().__init__(model, task)
        self.backward_encoder = model.twin()
        self.head = TextHead(model.width)

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        prefixes, suffixes = self.encode(batch)
        length, preceding = batch.answer.shape[1], batch.answer.flip(1)
        written = batch.answer != self.task.dummy
        rows = written.sum(1) if self.task.end is not None else None
        pairs = length * (length + 1) * len(batch) if rows is None else (rows * (rows + 1)).sum()
        sums = [
            checkpoint(
                self.prefix_loss,
                prefixes[:, i],
                suffixes[:, : length - i],
                batch.answer[:, i],
                preceding[:, : length - i],
                use_reentrant=False,
                preserve_rng_state=False,  # The head draws no random numbers.
            )
            for i in range(length)
        ]
        return torch.stack(sums).sum() / pairs

    def encode(self, batch: Batch) -> tuple[Float[Tensor, "B A D"], Float[Tensor, "B A D"]]:
        """Return the states of prefixes and of suffixes, each with 0 … A-1 answer tokens."""
        # Padding comes first once flipped; the `$` after it is the end.
        flipped, end = batch.answer.flip(1), torch.full_like(batch.answer[:, :1], self.task.dummy)
        padding = None if self.task.end is None else flipped == self.task.dummy
        suffixes = self.backward_encoder(torch.cat([end, flipped[:, :-1]], 1), padding=padding)
        return self.answer_hidden(batch), suffixes

    def prefix_loss(
        self,
        prefix: Float[Tensor, "B D"],
        suffixes: Float[Tensor, "B S D"],
        following: Int[Tensor, " B"],
        preceding: Int[Tensor, "B S"],
    ) -> Float[Tensor, ""]:
        """Return the sum of both cross-entropies over one prefix with all suffixes that leave a gap."""
        states = self.head(prefix[:, None].expand_as(suffixes), suffixes)
        following = following[:, None].expand_as(preceding)
        # Where the preceding token is padding, there is no gap.
        targets = torch.stack([following.where(preceding != self.task.dummy, preceding), preceding])
        return self.cross_entropy(self.model.logits(states), targets, "sum")

    def next_logits(self, hidden: Float[Tensor, "B S D"]) -> Float[Tensor, "B S V"]:
        """Return the logits of the token after each prefix, with the empty suffix."""
        end = torch.full((1, 1), self.task.dummy, device=hidden.device)
        return self.model.logits(self.head(hidden, self.backward_encoder(end).expand_as(hidden))[0])


class TextHead(nn.Module):
    """Prefix and suffix state side by side through a residual SwiGLU layer and a norm, then split again.

    The first half of the output predicts the next token, the second half the previous one.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = 16 * width // 3  # 8/3 of the input: as many weights as a plain MLP four times as wide.
        self.gate = nn.Linear(2 * width, hidden, bias=False)
        self.input = nn.Linear(2 * width, hidden, bias=False)
        self.output = nn.Linear(hidden, 2 * width, bias=False)
        self.norm = nn.LayerNorm(2 * width)
        for layer in (self.gate, self.input, self.output):
            nn.init.normal_(layer.weight, std=0.02)

    def forward(
        self, prefixes: Float[Tensor, "B S D"], suffixes: Float[Tensor, "B S D"]
    ) -> Float[Tensor, "2 B S D"]:
        x = torch.cat([prefixes, suffixes], 2)
        x = self.norm(x + self.output(F.silu(self.gate(x)) * self.input(x)))
        return torch.stack(x.chunk(2, 2))
