"""Multi-token prediction with parallel heads, and decoding by self-speculation."""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from forethought.models import Model, OutputLayer
from forethought.objectives.added_loss import AddedLoss, States
from forethought.objectives.base import Answer, Prefix, Prompt, check_at_most
from forethought.tasks import Batch, Task
from forethought.validation import validated


class MultiToken(AddedLoss):
    """Multi-token prediction: the next k tokens at once, each by its own head on one shared trunk.

    With s = x_1 … x_P y_1 … y_A and logits z^i_t of head i, which has read s_≤t,

        CE_i = -1/A Σ_t log softmax(z^i_t)[s_{t+i}]
        loss = CE_1 + weight · Σ_i CE_i,   i = 2 … k

        heads=blocks    z^i_t = U F_i(h_1 … h_t)      h: states that enter the model's last block
        heads=linear    z^i_t = W_i g_t               g: states that leave it, before the last norm

        input     x_1 … x_{P-1}  x_P  y_1  …  y_{A-1}
        head 1                   y_1  y_2  …  y_A
        head 2             (y_1) y_2  y_3  …            in brackets: with `loss_scope=spill` alone

    U is the model's output layer and F_1 its last block. F_2 … F_k are new blocks beside it, W_2 … W_k new
    output layers; z^1 is the model's own output. Without the others, the model is that of next-token
    prediction. (A pretrained model is not taken apart: h_t and g_t are its last states and F_1 is the
    identity.) A head has no loss where s_{t+i} lies beyond the answer.

    With `grow_steps=n`, the heads join one by one, as in the published forward curriculum: head i counts
    from step (i - 1) n / k on, so that the first n / k steps are next-token prediction.

    Decoded by head 1. With `speculate` the other heads draft the next tokens and head 1 checks the draft
    in the next call of the model. It keeps the tokens that it would have written: the same greedy answer
    in fewer calls. Rows advance at different speeds; above temperature 0 head 1 decodes alone.

    Source: Gloeckle et al., "Better & Faster Large Language Models via Multi-token Prediction"
    (2404.19737), §2; self-speculation: its §3.2, after Stern et al. (1811.03115). Linear heads: public code
    without a paper (github.com/ylsung/ssl-speedrun). Growing horizon: Aynetdinov & Akbik, "Pre-Training
    Curriculum for Multi-Token Prediction in Language Models" (2505.22757); their reverse curriculum is left
    out.

    Args:
        horizon: k, tokens predicted from each position; at most A. None: A, to the end of the answer.
        loss_scope: `answer`: the loss begins at the last prompt token; `spill`: head i is trained on all
            answer tokens, the first i - 1 of them at prompt positions that may not have read the question
            yet (as in public code that shifts the targets with `torch.roll`).
        heads: `blocks` or `linear`.
        weight: weight of each head but the first; 1 as published for blocks. The public code with linear
            heads weights their mean with .5: .5 / (k - 1) here, with `loss_scope=spill`.
        grow_steps: n, optimiser steps of the curriculum; None: all heads from the start.
        speculate: decode by self-speculation and report `model_calls`, the calls of the model per answer.

    Raises:
        Impossible: `horizon` is longer than the answer.
    """

    @validated
    def __init__(
        self,
        model: Model,
        task: Task,
        horizon: PositiveInt | None = None,
        loss_scope: Literal["answer", "spill"] = "spill",
        heads: Literal["blocks", "linear"] = "blocks",
        weight: NonNegativeFloat = 1.0,
        grow_steps: PositiveInt | None = None,
        speculate: bool = False,
    ) -> None:
        super().__init__(model, task)
        self.horizon = horizon or task.answer_length
        check_at_most(task.answer_length, task, horizon=self.horizon)
        self.loss_scope = loss_scope
        self.are_linear = heads == "linear"
        self.needs = "raw" if self.are_linear else "trunk"
        self.weight = weight
        self.grow_steps = grow_steps
        self.speculate = speculate
        self.heads = nn.ModuleList(self.new_head() for _ in range(self.horizon - 1))

    def new_head(self) -> nn.Module:
        """Return one more freshly initialised head."""
        if not self.are_linear:
            return self.model.new_layer()
        layer = OutputLayer(self.model.width, len(self.task.vocabulary), bias=False)
        nn.init.normal_(layer.weight, std=0.02)
        return layer

    @property
    def reach(self) -> int:
        """Number of heads that count at the current step."""
        if self.grow_steps is None or self.steps is None:
            return self.horizon
        return min(self.horizon, 1 + self.steps * self.horizon // self.grow_steps)

    def added_loss(self, states: States, batch: Batch) -> Float[Tensor, ""]:
        trunk = getattr(states, self.needs)[:, :-1]
        loss = trunk.new_zeros(())
        for i in range(2, self.horizon + 1):
            # Heads that do not count yet are read all the same: DDP requires a gradient of every weight.
            loss = loss + self.weight * (i <= self.reach) * self.head_loss(i, trunk, batch)
        return loss / self.count(batch.answer)

    def head_loss(self, i: int, trunk: Float[Tensor, "B T D"], batch: Batch) -> Float[Tensor, ""]:
        """Return the loss of head i, summed over its targets."""
        hidden, target = self.aligned(i, trunk, batch)
        return self.cross_entropy(self.head_logits(i, hidden), target, "sum")

    def aligned(
        self, i: int, trunk: Float[Tensor, "B T D"], batch: Batch
    ) -> tuple[Float[Tensor, "B S D"], Int[Tensor, "B S"]]:
        """Return states of head i and its targets, the last S tokens of the answer; `$` is no target."""
        end = batch.prompt.shape[1]
        first = end - 1 if self.loss_scope == "answer" else max(end - i, 0)
        target = batch.answer[:, first + i - end :]
        padding = self.padding(batch.prompt, trunk.shape[1])
        if padding is not None:  # no token stands there to predict from
            target = target.masked_fill(padding[:, first : first + target.shape[1]], self.task.dummy)
        hidden = self.head_state(i, trunk, batch.prompt, trunk.shape[1] - first)
        return hidden[:, : target.shape[1]], target

    def trunk(self, tokens: Int[Tensor, "B T"], prompt: Prompt) -> Float[Tensor, "B T D"]:
        """Return the states h_t or g_t, which all heads read."""
        layers = self.model.layers if self.are_linear else self.model.layers[:-1]
        return self.read(tokens, prompt, layers=layers, norm=False)

    def head_state(
        self, i: int, trunk: Float[Tensor, "B T D"], prompt: Prompt, count: int
    ) -> Float[Tensor, "B S D"]:
        """Return the states from which head i predicts, at the last S = `count` positions."""
        if self.are_linear:
            states = trunk[:, -count:]
            return self.model.norm(states) if i == 1 else states
        layer = self.model.layers[-1] if i == 1 else self.heads[i - 2]
        return self.read(trunk, prompt, count, layers=[layer])

    def head_logits(self, i: int, hidden: Float[Tensor, "*N D"]) -> Float[Tensor, "*N V"]:
        """Return the logits of head i from its states."""
        return self.heads[i - 2](hidden) if self.are_linear and i > 1 else self.model.logits(hidden)

    def decode(
        self, prompt: Prompt, length: int, prefix: Prefix | None = None, temperature: float = 0.0
    ) -> Answer:
        if self.speculate and temperature == 0:
            return self.self_speculate(prompt, length, prefix)[0]
        return super().decode(prompt, length, prefix, temperature)

    def self_speculate(
        self, prompt: Int[Tensor, "B P"], length: int, prefix: Int[Tensor, "B G"] | None = None
    ) -> tuple[Int[Tensor, "B A"], Int[Tensor, " B"]]:
        """Return the greedy answer of head 1, and the number of calls of the model for each row.

        Every call reads the whole draft, without a cache, so that rows can advance at different speeds.
        """
        prefix = prompt[:, :0] if prefix is None else prefix
        # The columns beyond the answer take the drafts that overshoot it.
        draft = F.pad(prefix, (0, length + self.horizon - prefix.shape[1]), value=self.task.dummy)
        known = torch.full_like(prompt[:, 0], prefix.shape[1])
        calls = torch.zeros_like(known)
        rows = torch.arange(len(prompt), device=prompt.device)
        columns = torch.arange(draft.shape[1], device=prompt.device)
        while (known < length).any():
            calls += known < length
            trunk = self.trunk(torch.cat([prompt, draft[:, : length - 1]], 1), prompt)
            checked = self.sample(self.model.logits(self.head_state(1, trunk, prompt, length)), 0.0)
            agreed = (draft[:, :length] == checked) | (columns[:length] < known[:, None])
            right = agreed.long().cumprod(1).sum(1)  # Tokens before the first one that head 1 rejects.
            # There head 1 is right, as it has read right tokens alone; from there the other heads draft.
            reader = right.clamp(max=length - 1)
            heads = [
                self.head_logits(i, self.head_state(i, trunk, prompt, length)[rows, reader])
                for i in range(1, self.horizon + 1)
            ]
            tokens = self.sample(torch.stack(heads, 1), 0.0)
            draft = draft.scatter(1, right[:, None] + columns[: self.horizon], tokens)
            known = right + 1
            if self.task.end is not None:  # a row stops at its end
                ended = (draft == self.task.end) & (columns < known[:, None])
                known = known.masked_fill(ended.any(1), length)
        return draft[:, :length], calls

    def diagnostics(self, batch: Batch, task: Task) -> dict[str, Float[Tensor, " B"]]:
        if not self.speculate:
            return {}
        calls = self.self_speculate(batch.prompt, batch.answer.shape[1])[1]
        return {"model_calls": calls.double()}
