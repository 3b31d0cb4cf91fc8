"""Next-latent prediction on two time scales: of states, and of summaries of the last k states."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from forethought.models import Model, OutputLayer
from forethought.models.gpt import Attention, initialise
from forethought.models.layers import Context, causal_mask
from forethought.objectives.added_loss import States
from forethought.objectives.base import check_at_most, mean_where
from forethought.objectives.next_latent import NextLatent, rollout_network
from forethought.tasks import Batch, Task
from forethought.validation import validated


class HierarchicalLatent(NextLatent):
    """Hierarchical latent prediction (HiLP): NextLat, and summaries of k states that predict later ones.

    With x_1 … x_T prompt and answer, h_t the last hidden states, an attention over a window of k states, a
    network g that reads no token, and an output layer V of its own,

        u_t     = LayerNorm(Attention(h_{t-k+1} … h_t)),    û_{t+k} = u_t + g(u_t)
        ũ_t     = u_t from the stopped states sg[h_{t-k+1}] … sg[h_t]
        summary = mean_t SmoothL1(sg[u_{t+k}], û_{t+k})
        tokens  = -1/A Σ_t log softmax(V [h_t; ũ_t])[x_{t+1}]

        loss = next-token + latent_weight · SmoothL1 + kl_weight · KL                  as in `next_latent`
                          + summary_weight · summary + combined_weight · tokens

        position       1 … P-1   P … T-1   T
        next token                  ×             prompt tokens carry no loss
        summary           ×         ×      ×      at t + k: the states of the prompt are predicted, too
        tokens                      ×             h_t learns from them; the states of the window do not

    One prediction of g spans k tokens, where a roll-out of NextLat adds up k errors. The tokens keep u from
    collapsing to a constant. Decoded as in next-token prediction, without any of these networks.

    Not to be had is the full text, so that these are our reading: the attention has one head and no
    positions; the LayerNorm of u, without which u would begin near zero; g as the network of NextLat; V
    reads h and ũ side by side (the source's ablation; its own gated merge is better there). The source's
    weights, on language, are latent_weight = 10 and kl_weight = .1 beside the defaults of the other two.

    Source: Shi et al., "Hierarchical Latent Prediction for Language Models" (2608.05806).

    Args:
        horizon, latent_weight, kl_weight, proj_factor: as of `NextLatent`; g has the same factor.
        window: k, states in a summary and tokens that g looks ahead; at most P + A - 1.
        summary_weight: weight of the SmoothL1 loss of the summaries.
        combined_weight: weight of the tokens' loss.

    Raises:
        Impossible: `horizon` or `window` reaches beyond prompt and answer.
    """

    @validated
    def __init__(
        self,
        model: Model,
        task: Task,
        horizon: PositiveInt = 3,
        latent_weight: NonNegativeFloat = 1.0,
        kl_weight: NonNegativeFloat = 1.0,
        proj_factor: PositiveFloat = 0.5,
        window: PositiveInt = 4,
        summary_weight: NonNegativeFloat = 1.0,
        combined_weight: NonNegativeFloat = 0.5,
    ) -> None:
        super().__init__(model, task, horizon, latent_weight, kl_weight, proj_factor)
        check_at_most(task.prompt_length + task.answer_length - 1, task, window=window)
        self.window = window
        self.summary_weight, self.combined_weight = summary_weight, combined_weight
        self.summary = Attention(model.width, heads=1)
        self.summary_norm = nn.LayerNorm(model.width)
        self.summary_dynamics = rollout_network(model.width, model.width, proj_factor)
        self.combined = OutputLayer(2 * model.width, len(task.vocabulary), bias=False)
        initialise(self.summary, depth=1)
        nn.init.normal_(self.combined.weight, std=0.02)

    def added_loss(self, states: States, batch: Batch) -> Float[Tensor, ""]:
        loss, hidden = super().added_loss(states, batch), states.all
        written = torch.cat([batch.prompt, batch.answer], 1) != self.task.dummy
        summary = self.summarise(hidden, written)
        start = summary[:, : -self.window]
        guess, true = start + self.summary_dynamics(start), summary[:, self.window :].detach()
        distance = F.smooth_l1_loss(guess, true.to(guess), reduction="none").mean(2)
        error = mean_where(distance, written[:, : -self.window] & written[:, self.window :])
        both = torch.cat([hidden, self.summarise(hidden.detach(), written)], 2)
        combined = self.answer_loss(self.combined(both[:, batch.prompt.shape[1] - 1 : -1]), batch)
        return loss + self.summary_weight * error + self.combined_weight * combined

    def summarise(
        self, hidden: Float[Tensor, "B T D"], written: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T D"]:
        """Return u, from the written states of each window."""
        length = hidden.shape[1]
        causal = causal_mask(length, device=hidden.device)
        within = causal & ~causal.tril(-self.window)
        itself = torch.eye(length, dtype=torch.bool, device=hidden.device)  # padding that sees nothing: NaN
        mask = (within & written[:, None]) | itself
        attended = self.summary(hidden, Context(torch.arange(length, device=hidden.device), mask))
        return self.summary_norm(attended)
