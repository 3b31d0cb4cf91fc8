"""Policy gradient: reinforce sampled answers that are rewarded."""

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

    For each prompt x, K whole answers y^1 … y^K are sampled from a policy π_old and rewarded with r^k:

        exact        1 if the task's check accepts the answer, else 0
        first_hop    1 if the decision tokens (of a star: the first hop) are those of the true answer
        share        share of the tokens of the true answer that stand at their places

    With ρ^k_i = π(y^k_i | x, y^k_<i) / π_old(y^k_i | x, y^k_<i),

        loss = -1/(K A) Σ_k Σ_i min( ρ^k_i Â^k, clip(ρ^k_i, 1 - ε, 1 + ε) Â^k ) - β d^k_i

        leave_one_out    Â^k = r^k - mean of the other K - 1 rewards
        group            Â^k = (r^k - mean r) / std r            0 where all K rewards are equal

    `refresh=1`: π_old is the current model. Then every ρ is 1, clipping never acts, and the gradient is
    REINFORCE's, -Â ∇log π. Without β, the loss is then always 0: read `sampled_reward` instead.
    `refresh=n`: π_old is a copy of the model frozen for n steps, as in a PPO iteration over n minibatches.

    d^k_i = π_ref / π - log(π_ref / π) - 1 at token i estimates KL(π ‖ π_ref), where π_ref is the model
    of step 0, or of `init_from`.

    Only `exact` never reads the true answers. From scratch the model learns nothing until a sample is
    right by luck; `init_from` starts from a next-token run, and `task.easy_mix` mixes in smaller graphs.
    `share` also pays for a copied start and for the nodes that all arms have in common, none of which
    needs a plan. Decoded token by token, like next-token prediction.

    Source: leave-one-out: Kool et al., "Buy 4 REINFORCE Samples, Get a Baseline for Free!" (2019);
    Ahmadian et al. (2402.14740). Group, clipping and d: GRPO, Shao et al., "DeepSeekMath" (2402.03300),
    §4.1; the std, left open there, is the population's. `share`: the reward of public GRPO code for
    path-stars, of which no results are published.

    Args:
        samples: K, answers a prompt.
        temperature: softens π, π_old and π_ref alike; decoding at evaluation has its own.
        reward: r, one of the rows of the first table.
        advantage: baseline of a reward, one of the rows of the second table.
        clip: ε, largest useful change of ρ in the direction that the reward asks for.
        refresh: n, steps between two copies of the model to π_old.
        kl_weight: β.
    """

    @validated
    def __init__(
        self,
        model: Model,
        task: Task,
        samples: Annotated[int, Field(ge=2)] = 8,
        temperature: PositiveFloat = 1.0,
        reward: Literal["exact", "first_hop", "share"] = "exact",
        advantage: Literal["leave_one_out", "group"] = "leave_one_out",
        clip: PositiveFloat = 0.2,
        refresh: PositiveInt = 1,
        kl_weight: Annotated[float, Field(ge=0)] = 0.0,
    ) -> None:
        super().__init__(model, task)
        self.samples, self.temperature, self.reward = samples, temperature, reward
        self.advantage, self.clip, self.refresh, self.kl_weight = advantage, clip, refresh, kl_weight
        self.frozen = self._frozen_copy() if refresh > 1 else None
        self.reference = self._frozen_copy() if kl_weight else None

    def _frozen_copy(self) -> NextToken:
        return NextToken(copy.deepcopy(self.model), self.task).requires_grad_(False)

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        policy = self.sampling_policy()
        drawn = sample_answers(policy, self.task, batch.prompt, self.samples, self.temperature)
        new = log_likelihood(self, drawn, self.temperature)
        old = new.detach() if policy is self else log_likelihood(policy, drawn, self.temperature)
        advantage = self.advantages(self.rewards(batch, drawn).to(new).view(-1, self.samples)).view(-1, 1)
        ratio = (new - old).exp()
        clipped = ratio.clamp(1 - self.clip, 1 + self.clip)
        value = torch.minimum(ratio * advantage, clipped * advantage)
        if self.reference is not None:
            value = value - self.kl_weight * self.divergence(new, drawn)
        return -self.mean(value, drawn.answer)

    def rewards(self, batch: Batch, drawn: Batch) -> Float[Tensor, " N"]:
        """Return r of each of the N = B·K drawn answers."""
        if self.reward == "exact":
            return (self.task.check(drawn.prompt, drawn.answer) == 0).float()
        hits = drawn.answer == batch.answer.repeat_interleave(self.samples, 0)
        if self.reward == "first_hop":
            deciding = self.task.decision_mask(batch).repeat_interleave(self.samples, 0)
            return (hits | ~deciding).all(1).float()
        written = (batch.answer != self.task.dummy).repeat_interleave(self.samples, 0)
        return (hits & written).sum(1) / written.sum(1)

    def divergence(self, new: Float[Tensor, "N A"], drawn: Batch) -> Float[Tensor, "N A"]:
        """Return d of each token. The reference is copied at step 0, after `init_from` is loaded."""
        assert self.reference is not None
        if self.training and not self.steps:
            self.reference.model.load_state_dict(self.model.state_dict())
        with torch.no_grad():
            reference = log_likelihood(self.reference, drawn, self.temperature)
        return (reference - new).expm1() - (reference - new)

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
