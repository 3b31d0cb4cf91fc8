"""Value-guided decoding: a frozen policy, guided by a classifier of its own success."""

import copy
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import PositiveFloat
from torch import Tensor

from forethought.models import Model
from forethought.objectives.base import Answer, Prefix, Prompt
from forethought.objectives.next_token import NextToken
from forethought.tasks import Batch, Task
from forethought.validation import validated


class ValueGuided(NextToken):
    """Value-guided decoding (Q♯, CD): a frozen policy's chance of success after each prefix and next token.

    The policy π_ref is the model of step 0, or of `init_from`. It is frozen. One answer y ~ π_ref(· | x) is
    sampled for each prompt x; r = 1 if the task's check accepts it, else 0. A classifier with logits z
    learns r from each token and those before it:

        loss = -1/A Σ_i r log σ(z(x, y_<i)_{y_i}) + (1 - r) log σ(-z(x, y_<i)_{y_i})

        input         x_1 … x_P  y_1  …  y_{A-1}        of both models
        z of token          y_1  y_2  …  y_A            prompt and padding carry no loss

    p = σ(z) is then the probability that π_ref succeeds after prefix and token. Decoded token by token
    from π ∝ π_ref · exp(Q / η), to which all metrics belong:

        q_sharp    Q = η log E exp(r/η) = η log(1 - p + p exp(1/η))    optimal for E r - η KL(π ‖ π_ref)
        cd         Q = E r = p

    The classifier is a copy of π_ref with weights of its own, whose logits are z: one pass gives Q of all
    next tokens, and those that π_ref never writes begin with a low one. The true answers are never read.

    Differs from the authors' code for path-stars, whose classifier is pretrained GPT-2 with one output,
    reads each of the 10 likeliest next tokens as its input, and learns from the true answer and a wrong
    sample of each prompt. Its CD adds log p in place of p/η.

    Source: Q♯: Zhou et al., "Q♯: Provably Optimal Distributional RL for LLM Post-Training" (2502.20548),
    §2 and §3.1, without the rounds of new data; CD: Mudgal et al., "Controlled Decoding from Language
    Models" (2310.17022).

    Args:
        variant: Q, one of the two rows of the table.
        eta: η, weight of the divergence from π_ref; smaller guides more strongly.
    """

    starts_trained = True
    next_token_layout = False  # The logits are those of two models.

    @validated
    def __init__(
        self,
        model: Model,
        task: Task,
        variant: Literal["q_sharp", "cd"] = "q_sharp",
        eta: PositiveFloat = 0.1,
    ) -> None:
        super().__init__(model, task)
        self.variant, self.eta = variant, eta
        self.classifier = NextToken(copy.deepcopy(model), task)
        model.requires_grad_(False)

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        if self.training and self.steps == 0:  # `init_from` is loaded after the constructor.
            self.classifier.model.load_state_dict(self.model.state_dict())
        drawn = self.sample_policy(batch.prompt)
        right = self.task.check(drawn.prompt, drawn.answer) == 0
        z = self.classifier.answer_logits(drawn).gather(2, drawn.answer[..., None])[..., 0]
        losses = F.binary_cross_entropy_with_logits(z, right[:, None].expand_as(z).to(z), reduction="none")
        return self.mean(losses, drawn.answer)

    @torch.no_grad()
    def sample_policy(self, prompt: Prompt) -> Batch:
        """Return an answer of π_ref to each prompt."""
        # Decoding has too many shapes to be worth compiling, even if training is compiled.
        with torch.compiler.set_stance("force_eager"):
            answer = super().decode(prompt, self.task.answer_length, temperature=1.0)
        return Batch(prompt, self.task.trim(answer))

    def guide(self, logits: Float[Tensor, "*N V"], z: Float[Tensor, "*N V"]) -> Float[Tensor, "*N V"]:
        """Return the logits of π from those of π_ref."""
        if self.variant == "cd":
            return logits + z.sigmoid() / self.eta
        return logits + F.softplus(z + 1 / self.eta) - F.softplus(z)

    def answer_logits(self, batch: Batch) -> Float[Tensor, "B A V"]:
        return self.guide(super().answer_logits(batch), self.classifier.answer_logits(batch))

    def decode(
        self, prompt: Prompt, length: int, prefix: Prefix | None = None, temperature: float = 0.0
    ) -> Answer:
        answer = prompt[:, :0] if prefix is None else prefix
        inputs = self.inputs(prompt, answer)
        size = inputs.shape[1] + length - answer.shape[1]
        readers = [(part, part.model.init_cache(len(prompt), size)) for part in (self, self.classifier)]
        while answer.shape[1] < length:
            logits, z = (part.next_logits(part.read(inputs, prompt, 1, cache)) for part, cache in readers)
            inputs = self.sample(self.guide(logits, z), temperature)
            answer = torch.cat([answer, inputs], 1)
        return answer
