"""Policy gradient: reinforce sampled answers that the task accepts."""

import copy
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from forethought.models import Model
from forethought.objectives.next_token import NextToken
from forethought.objectives.sampling import log_likelihood, sample_answers, sampled_metrics
from forethought.tasks import Batch, Task
from forethought.validation import validated


class PolicyGradient(NextToken):
    """Policy gradient: each token of a self-sampled answer, reinforced if the task accepts the answer.

    For each prompt x, K whole answers y^1 … y^K are sampled from a policy π_old and rewarded with r^k = 1
    if the task's check accepts them, else 0. With ρ^k_i = π(y^k_i | x, y^k_<i) / π_old(y^k_i | x, y^k_<i),

        loss = -1/(K A) Σ_k Σ_i min( ρ^k_i Â^k, clip(ρ^k_i, 1 - ε, 1 + ε) Â^k )

        leave_one_out    Â^k = r^k - mean of the other K - 1 rewards
        group            Â^k = (r^k - mean r) / std r            0 where all K rewards are equal

    `refresh=1`: π_old is the current model. Then every ρ is 1, clipping never acts, the gradient is
    REINFORCE's, -Â ∇log π, and the loss is always 0: read `sampled_reward` instead. `refresh=n`: π_old is
    a copy of the model frozen for n steps, as in a PPO iteration over n minibatches of prompts.

    The true answers are never read. From scratch the model learns nothing until a sample is right by
    luck; `init_from` starts from a next-token run. Decoded token by token, like next-token prediction.

    Source: leave-one-out: Kool et al., "Buy 4 REINFORCE Samples, Get a Baseline for Free!" (2019);
    Ahmadian et al. (2402.14740). Group: GRPO, Shao et al., "DeepSeekMath" (2402.03300), §4.1, without
    the KL term, for want of a reference model; the std, left open there, is the population's.

    Args:
        samples: K, answers a prompt.
        temperature: softens π and π_old alike; decoding at evaluation has its own.
        advantage: baseline of a reward, one of the two rows of the table.
        clip: ε, largest useful change of ρ in the direction that the reward asks for.
        refresh: n, steps between two copies of the model to π_old.
    """

    @validated
    def __init__(
        self,
        model: Model,
        task: Task,
        samples: Annotated[int, Field(ge=2)] = 8,
        temperature: PositiveFloat = 1.0,
        advantage: Literal["leave_one_out", "group"] = "leave_one_out",
        clip: PositiveFloat = 0.2,
        refresh: PositiveInt = 1,
    ) -> None:
        super().__init__(model, task)
        self.samples, self.temperature = samples, temperature
        self.advantage, self.clip, self.refresh = advantage, clip, refresh
        self.frozen = NextToken(copy.deepcopy(model), task).requires_grad_(False) if refresh > 1 else None

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        policy = self.sampling_policy()
        drawn = sample_answers(policy, self.task, batch.prompt, self.samples, self.temperature)
        new = log_likelihood(self, drawn, self.temperature)
        old = new.detach() if policy is self else log_likelihood(policy, drawn, self.temperature)
        right = self.task.check(drawn.prompt, drawn.answer) == 0
        advantage = self.advantages(right.to(new).view(-1, self.samples)).view(-1, 1)
        ratio = (new - old).exp()
        clipped = ratio.clamp(1 - self.clip, 1 + self.clip)
        return -self.mean(torch.minimum(ratio * advantage, clipped * advantage), drawn.answer)

    def sampling_policy(self) -> NextToken:
        """Return π_old for the current step; outside a Trainer every step is fresh."""
        if self.frozen is None:
            return self
        if self.training and (self.steps or 0) % self.refresh == 0:
            self.frozen.model.load_state_dict(self.model.state_dict())
        return self.frozen

    def advantages(self, reward: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        if self.advantage == "leave_one_out":
            return reward - (reward.sum(1, keepdim=True) - reward) / (self.samples - 1)
        deviation, mean = torch.std_mean(reward, 1, correction=0, keepdim=True)
        return (reward - mean) / (deviation + 1e-6)

    def diagnostics(self, batch: Batch, task: Task) -> dict[str, Float[Tensor, " B"]]:
        return sampled_metrics(self, task, batch.prompt, self.samples, self.temperature)
