"""Next-latent prediction: each hidden state predicts the next ones from the tokens between."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from forethought.models import Model
from forethought.models.gpt import initialise
from forethought.objectives.added_loss import AddedLoss, States
from forethought.objectives.base import check_at_most, mean_where
from forethought.tasks import Batch, Task
from forethought.validation import validated


class NextLatent(AddedLoss):
    """Next-latent prediction (NextLat): the next token, and the next hidden states from this one.

    With x_1 … x_T prompt and answer, h_t the last hidden states, and p the output layer, a small
    network f rolls each state forward, reading the true tokens,

        ĥ_{t,0} = h_t,    ĥ_{t,i} = ĥ_{t,i-1} + f(LayerNorm([ĥ_{t,i-1}; Emb(x_{t+i})])),    i = 1 … d

        loss = next-token + latent_weight · 1/d Σ_i mean_t SmoothL1(sg[h_{t+i}], ĥ_{t,i})
                          + kl_weight     · 1/d Σ_i mean_t KL(p(· | sg[h_{t+i}]) ‖ p(· | ĥ_{t,i}))

    The target states are stopped (sg), and in the KL the output layer is frozen: the roll-out learns to
    reach the next states, and its start state learns to hold the information for it.

        position       1 … P-1   P … T-1   T
        next token                  ×             prompt tokens carry no loss
        SmoothL1          ×         ×      ×      at t + i: the states of the prompt are predicted, too
        KL                          ×             at t + i

    Decoded as in next-token prediction, without f.

    Source: Teoh et al., "Next-Latent Prediction Transformers Learn Compact World Models" (2511.05963),
    §3.2 and App. C; their code for the width and the missing biases of f. In that code, the LayerNorm of f
    is an RMSNorm, the model has RMSNorm, SwiGLU and rotary positions, the output layer is not tied to the
    embedding, and an end token follows the answer. Here the model is as configured (`gpt` ties its output
    layer), and the sequence ends with the answer.

    Args:
        horizon: d, in tokens.
        latent_weight: weight of the SmoothL1 loss.
        kl_weight: weight of the KL loss.
        proj_factor: width of the two hidden layers of f, as a multiple of its input width 2 D.

    Raises:
        Impossible: `horizon` reaches beyond prompt and answer.
    """

    needs = "all"

    @validated
    def __init__(
        self,
        model: Model,
        task: Task,
        horizon: PositiveInt = 3,
        latent_weight: NonNegativeFloat = 1.0,
        kl_weight: NonNegativeFloat = 1.0,
        proj_factor: PositiveFloat = 0.5,
    ) -> None:
        super().__init__(model, task)
        check_at_most(task.prompt_length + task.answer_length - 2, task, horizon=horizon)
        self.horizon = horizon
        self.latent_weight = latent_weight
        self.kl_weight = kl_weight
        self.dynamics = rollout_network(2 * model.width, model.width, proj_factor)

    def added_loss(self, states: States, batch: Batch) -> Float[Tensor, ""]:
        tokens = torch.cat([batch.prompt, batch.answer], 1)
        latent, kl = self.rollout_losses(states.all, tokens, states.logits, batch.prompt.shape[1])
        return self.latent_weight * latent + self.kl_weight * kl

    def rollout_losses(
        self,
        hidden: Float[Tensor, "B T D"],
        tokens: Int[Tensor, "B T"],
        logits: Float[Tensor, "B A V"],
        prompt_length: int,
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Return SmoothL1 and KL, each a mean over the steps; `logits` are those of positions P … T-1.

        Only roll-outs between written tokens count, and the KL only where the next token is written.
        """
        embedded = self.model.embed(tokens)
        written = tokens != self.task.dummy
        # Freeze the output layer: its bias is the logits of zero, its weights those of the unit vectors.
        bias = self.model.logits(torch.zeros_like(hidden[0, :1])).detach()
        unit = torch.eye(hidden.shape[2], dtype=hidden.dtype, device=hidden.device)
        frozen = self.model.logits(unit).detach() - bias
        true = logits.detach().log_softmax(2)
        latent = kl = hidden.new_zeros(())
        rolled = hidden
        for step in range(1, self.horizon + 1):
            # Column t of the new `rolled` belongs to position t + step.
            start = rolled[:, :-1]
            rolled = start + self.dynamics(torch.cat([start, embedded[:, step:]], 2))
            distance = F.smooth_l1_loss(rolled, hidden[:, step:].detach(), reduction="none").mean(2)
            latent = latent + mean_where(distance, written[:, :-step] & written[:, step:])
            # First position that predicts an answer token and that `step` steps reach.
            first = max(prompt_length - 1, step)
            guess = (rolled[:, first - step : -1] @ frozen + bias).log_softmax(2)
            target = true[:, first - (prompt_length - 1) :]
            divergence = F.kl_div(guess, target, reduction="none", log_target=True).sum(2)
            kl = kl + mean_where(divergence, written[:, first - step : -1 - step] & written[:, first + 1 :])
        return latent / self.horizon, kl / self.horizon


def rollout_network(inputs: int, outputs: int, proj_factor: float) -> nn.Sequential:
    """Return a network of three layers from states to a later state less the first."""
    inner = max(1, round(proj_factor * inputs))
    network = nn.Sequential(
        nn.LayerNorm(inputs),
        nn.Linear(inputs, inner, bias=False),
        nn.GELU(),
        nn.Linear(inner, inner, bias=False),
        nn.GELU(),
        nn.Linear(inner, outputs, bias=False),
    )
    initialise(network, depth=1)
    return network
