"""Preference optimisation: the true answer, preferred to a wrong one of the model's own."""

import copy
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field, PositiveFloat
from torch import Tensor

from forethought.models import Model
from forethought.objectives.base import mean_where
from forethought.objectives.next_token import NextToken
from forethought.objectives.sampling import log_likelihood, sample_answers
from forethought.tasks import Batch, Task
from forethought.validation import validated


class Preference(NextToken):
    """Preference optimisation (DPO, RPO, IPO): the true answer above a wrong one that the model sampled.

    The reference π_ref is the model of step 0, or of `init_from`. It is frozen. For each prompt x, it samples
    one answer w. If the task's check rejects w, the true answer y and w are a pair; else x carries no loss.
    With log π the sum over the written tokens of an answer, and

        Δ = log π(y | x) / π_ref(y | x) - log π(w | x) / π_ref(w | x)

    the loss is the mean over the pairs of the batch (0 if there is none) of

        dpo    -log σ(β Δ)
        rpo    -log σ(β Δ) - α log π(y | x)
        ipo    (Δ - 1 / 2β)²

        input     x_1 … x_P  y_1  …  y_{A-1}        x_1 … x_P  w_1  …  w_{A-1}
        target          y_1  y_2  …  y_A                  w_1  w_2  …  w_A

    Δ also grows if both answers get less likely and w does so faster: `forced_loss` shows it. `init_from`
    starts from a next-token run. Decoded token by token, like next-token prediction.

    Source: DPO: Rafailov et al., "Direct Preference Optimization" (2305.18290), eq. 7. RPO: the authors' code
    of Q♯ (2502.20548), §3.1; in Pang et al., "Iterative Reasoning Preference Optimization" (2404.19733),
    eq. 1, the added term is divided by the length of the answer, and π_ref is replaced between rounds.
    IPO: Azar et al., "A General Theoretical Paradigm to Understand Learning from Human Preferences"
    (2310.12036), eq. 17. The pairs of Q♯ are sampled until w is wrong.

    Args:
        variant: loss, one of the three rows of the table.
        beta: β; larger stays closer to π_ref.
        nll_weight: α, of `rpo` alone.
    """

    starts_trained = True

    @validated
    def __init__(
        self,
        model: Model,
        task: Task,
        variant: Literal["dpo", "rpo", "ipo"] = "dpo",
        beta: PositiveFloat = 0.1,
        nll_weight: Annotated[float, Field(ge=0)] = 1.0,
    ) -> None:
        super().__init__(model, task)
        self.variant, self.beta, self.nll_weight = variant, beta, nll_weight
        self.reference = NextToken(copy.deepcopy(model), task).requires_grad_(False)

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        if self.training and self.steps == 0:  # `init_from` is loaded after the constructor.
            self.reference.model.load_state_dict(self.model.state_dict())
        drawn = sample_answers(self.reference, self.task, batch.prompt, 1, temperature=1.0)
        wrong = self.task.check(drawn.prompt, drawn.answer) != 0
        # One pass for both answers: the true ones, then the sampled ones.
        pairs = Batch(batch.prompt.repeat(2, 1), torch.cat([batch.answer, drawn.answer]))
        new = log_likelihood(self, pairs).sum(1)
        with torch.no_grad():
            old = log_likelihood(self.reference, pairs).sum(1)
        true, sampled = (new - old).chunk(2)
        delta = true - sampled
        losses = (delta - 0.5 / self.beta) ** 2 if self.variant == "ipo" else -F.logsigmoid(self.beta * delta)
        if self.variant == "rpo":
            losses = losses - self.nll_weight * new[: len(batch)]
        return mean_where(losses, wrong)
