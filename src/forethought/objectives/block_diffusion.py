"""Block diffusion of the answer (BD3-LM): masked diffusion of one block of tokens after the other."""

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import Field, PositiveInt
from torch import Tensor

from forethought.errors import Impossible
from forethought.models import Model
from forethought.objectives.base import Answer, Prefix, Prompt
from forethought.objectives.masked_diffusion import MaskedDiffusion
from forethought.tasks import Batch, Task
from forethought.validation import validated


class BlockDiffusion(MaskedDiffusion):
    """Block diffusion (BD3-LM): the masked tokens of each block of the answer, from the blocks before it.

    The answer is cut into blocks of L tokens. In block b, each token is masked by `$` with probability r_b.
    With ỹ_b the masked block and c_i = -log p(y_i | x, y_<b, ỹ_b),

        nelbo      loss = 1/A Σ_i c_i / r_b             over the masked tokens; mean over the batch
        uniform    loss = mean of c_i                   over the masked tokens of the batch
        r_b ~ U(min_rate, max_rate), drawn for each block of each row

        L = 2      prompt         true blocks       masked blocks
        input      x_1 … x_P      y_1 y_2           y_1  $     $   y_4
        target                                          y_2   y_3             no shift by one
        position   1   … P        P+1 P+2           P+1 P+2   P+3 P+4

    One pass learns all blocks. A masked block sees the prompt, the true blocks before it, and itself in both
    directions. A true block sees the same, so that it is read as a written block is read in decoding. The
    true last block is left out, because no other block would see it. Prompt tokens see each other by
    `model.mask`, but never the answer: `full` would be `prefix`, and is rejected.

    At L = A, the loss of `uniform` with rates from 0 to 1 is that of `masked_diffusion`, but answer tokens
    see each other and the prompt sees none of them. At L = 1, tokens are written from left to right, each at
    its own `$`. `min_rate` = 1 is then best, because only masked tokens carry a loss: both weightings are
    -1/A Σ_i log p(y_i | x, y_<i).

    In a block that is mostly revealed, a token follows from its neighbours, so low rates teach little about
    the future. Under `nelbo`, they also give large weights to few tokens. Hence `min_rate` = 0.5.

    Decoded block by block, each as by `masked_diffusion`, in `steps` passes. Evaluation reads the logits of
    each block's first pass after the true blocks before it.

    Source: Arriola et al., "Block Diffusion: Interpolating Between Autoregressive and Diffusion Language
    Models" (2503.09573); the clipped rates: its noise schedules, which the variance of the loss selects for
    each L. In its code, the rates are drawn by antithetic sampling, and p excludes `$`.

    Args:
        block_length: L; None, or more than the answer has tokens: one block.
        weighting: `nelbo` (the paper's; with rates from 0 to 1 a bound on -log p(y | x), per token) or
            `uniform` (as in `masked_diffusion`).
        min_rate: least r_b.
        max_rate: largest r_b. 1 / r_b counts as 1000 at most, as in the paper's code.
        steps: passes of the decoding of a block; None, or more than a block has tokens: a token a pass.

    Raises:
        Impossible: `min_rate` exceeds `max_rate`, or the model's attention cannot be masked.
    """

    masks = ("causal", "prefix")
    any_order = True

    @validated
    def __init__(
        self,
        model: Model,
        task: Task,
        block_length: PositiveInt | None = 4,
        weighting: Literal["nelbo", "uniform"] = "nelbo",
        min_rate: Annotated[float, Field(ge=0, le=1)] = 0.5,
        max_rate: Annotated[float, Field(gt=0, le=1)] = 1.0,
        steps: PositiveInt | None = None,
    ) -> None:
        super().__init__(model, task, steps=steps)
        if min_rate > max_rate:
            raise Impossible(
                f"objective.min_rate={min_rate}: out of range for objective.max_rate={max_rate}; "
                f"use at most {max_rate}"
            )
        self.block_length = min(block_length or task.answer_length, task.answer_length)
        self.weighting, self.min_rate, self.max_rate = weighting, min_rate, max_rate
        self.teacher_forced = self.block_length < task.answer_length

    @property
    def left_to_right(self) -> bool:
        return self.teacher_forced and self.block_length == 1

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        if self.weighting == "uniform":
            return super().loss(batch)
        answer = self.task.fill(batch.answer)
        masked, weight = self.noise(answer)
        losses = self.cross_entropy(self.logits(batch.prompt, answer, masked), answer, "none")
        return (losses * masked * weight).mean()

    def noise(self, answer: Int[Tensor, "B A"]) -> tuple[Bool[Tensor, "B A"], Float[Tensor, "B A"]]:
        """Return True for each token to mask, and 1 / r of each token."""
        block = torch.arange(answer.shape[1], device=answer.device) // self.block_length
        count = -(-answer.shape[1] // self.block_length)
        rate = torch.rand(len(answer), count, device=answer.device)
        rate = (self.min_rate + (self.max_rate - self.min_rate) * rate)[:, block]
        return torch.rand(answer.shape, device=answer.device) < rate, 1 / rate.clamp(min=1e-3)

    def logits(
        self, prompt: Int[Tensor, "B P"], answer: Int[Tensor, "B A"], masked: Bool[Tensor, "B A"]
    ) -> Float[Tensor, "B A V"]:
        """Return the logits of each answer position: its block is masked, the blocks before are not."""
        length = answer.shape[1]
        true = answer[:, : self.before_last(length)]
        tokens = torch.cat([prompt, true, answer.masked_fill(masked, self.task.dummy)], 1)
        position = torch.arange(prompt.shape[1] + length, device=prompt.device)
        first, last = prompt.shape[1], prompt.shape[1] + true.shape[1]
        hidden = self.read(
            tokens,
            prompt,
            length,
            positions=self.skip_padding(torch.cat([position[:last], position[first:]]), prompt),
            attention_mask=self.build_attention_mask(first, length, prompt.device),
        )
        return self.model.logits(hidden)

    def before_last(self, length: int) -> int:
        """Return the number of tokens before the last block of an answer."""
        return (length - 1) // self.block_length * self.block_length

    def build_attention_mask(
        self, prompt_length: int, length: int, device: torch.device
    ) -> Bool[Tensor, "T T"]:
        """Return the mask of prompt, true blocks and masked blocks, in this order."""
        prompt = self.model.build_attention_mask(prompt_length, prompt_length, device)
        block = torch.arange(length, device=device) // self.block_length
        true = block[: self.before_last(length)]
        of_true = F.pad(true[:, None] >= true, (0, length))
        of_masked = torch.cat([block[:, None] > true, block[:, None] == block], 1)
        answer = F.pad(torch.cat([of_true, of_masked]), (prompt_length, 0), value=True)
        return torch.cat([F.pad(prompt, (0, len(answer))), answer])

    def decode(
        self, prompt: Prompt, length: int, prefix: Prefix | None = None, temperature: float = 0.0
    ) -> Answer:
        answer = prompt[:, :0] if prefix is None else prefix
        while answer.shape[1] < length:
            end = (answer.shape[1] // self.block_length + 1) * self.block_length
            answer = super().decode(prompt, min(end, length), answer, temperature)
        return answer
