"""TRELAWNEY: a copy of a later part of the answer, inserted between two special tokens."""

from typing import Annotated, Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor, nn

from forethought.models import Model
from forethought.objectives.base import Answer, Prefix, Prompt, check_at_most
from forethought.objectives.next_token import NextToken
from forethought.tasks import Batch, Task
from forethought.validation import validated


class LookaheadInsertion(NextToken):
    """Lookahead insertion (TRELAWNEY): each next token of an answer that may hold a piece of its future.

    In each row, with `probability` p, the answer becomes (d, then s > d, uniform over all that fit)

        ỹ = y_1 … y_d <T> y_s … y_{s+k-1} </T> y_{d+1} … y_A

        loss = -mean of log p(ỹ_i | x, ỹ_<i) over all tokens of the batch but <T>

        input     x_1 … x_P  y_1  <T>  y_3  </T>  y_2  …          (d = 1, k = 1, s = 3)
        target          y_1   -   y_3  </T>  y_2  y_3  …          prompt tokens carry no loss

    <T> has no loss and no output, so the model never writes it: `force` places it. The two tokens are
    rows that this objective adds to the vocabulary, </T> with a tied output.

    Decoded as plain next-token prediction or, with `force`, with a <T> written after that many answer
    tokens: the model then writes k tokens of a future, </T> follows, and the answer resumes. The
    insertion is no part of the answer. Teacher-forced logits are those of the plain answer, also with
    `force`.

    Source: Thankaraj et al., "Looking beyond the next token" (2504.11336); the span's length, left open
    there, is fixed here.

    Args:
        probability: p.
        span: k, in tokens, at most A.
        force: answer tokens before the <T> that decoding writes; None: decode plainly.

    Raises:
        Impossible: `span`, or `span` after `force` tokens, does not fit into the answer.
    """

    @validated
    def __init__(
        self,
        model: Model,
        task: Task,
        probability: Annotated[float, Field(ge=0, le=1)] = 0.5,
        span: PositiveInt = 1,
        force: NonNegativeInt | None = None,
    ) -> None:
        super().__init__(model, task)
        check_at_most(task.answer_length, task, span=span)
        check_at_most(task.answer_length - span, task, force=force or 0)
        self.probability = probability
        self.span = span
        self.force = force
        self.end, self.begin = len(task.vocabulary), len(task.vocabulary) + 1
        self.added = nn.Embedding(2, model.width)
        nn.init.normal_(self.added.weight, std=0.02)

    @classmethod
    @validated
    def extra_positions(cls, task: Task, span: PositiveInt = 1, **options: Any) -> int:
        return span + 2

    @property
    def left_to_right(self) -> bool:
        return self.force is None

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        answer, target = self.insert(batch.answer)
        tokens = torch.cat([batch.prompt, answer[:, :-1]], 1)
        hidden = self.read(self.embed(tokens), batch.prompt, answer.shape[1])
        end = F.linear(hidden, self.added.weight[:1])
        logits = torch.cat([self.model.logits(hidden), end], 2)
        return self.cross_entropy(logits, target)

    def insert(self, answer: Int[Tensor, "B A"]) -> tuple[Int[Tensor, "B L"], Int[Tensor, "B L"]]:
        """Return the answers to read, L = A + k + 2, and their targets, `$` where there is no loss."""
        (count, length), k, device = answer.shape, self.span, answer.device
        written = (answer != self.task.dummy).sum(1, keepdim=True)
        fits = written - k + 1
        d = (torch.rand(count, 1, device=device) * fits).long().clamp(min=0)
        s = d + (torch.rand(count, 1, device=device) * (fits - d)).long()
        plain = (torch.rand(count, 1, device=device) >= self.probability) | (fits < 1)
        d = d.masked_fill(plain, length)  # After the whole answer: no loss, and no token sees it.
        slot = torch.arange(length + k + 2, device=device).expand(count, -1)
        after = slot - d  # 0: <T>; 1 … k: the span; k + 1: </T>
        source = torch.where(after < 0, slot, torch.where(after <= k, s + after - 1, slot - k - 2))
        read = answer.gather(1, source.clamp(0, length - 1))
        read = read.masked_fill(after == 0, self.begin).masked_fill(after == k + 1, self.end)
        return read, read.masked_fill((after == 0) | (plain & (slot >= length)), self.task.dummy)

    def embed(self, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
        added = tokens - self.end
        known = self.model.embed(tokens.clamp(max=self.end - 1))
        return torch.where((added < 0)[..., None], known, self.added(added.clamp(min=0)))

    def decode(
        self, prompt: Prompt, length: int, prefix: Prefix | None = None, temperature: float = 0.0
    ) -> Answer:
        cache = self.model.init_cache(len(prompt), prompt.shape[1] + length + self.span + 2)

        def write(read: Int[Tensor, "B T"]) -> Int[Tensor, "B 1"]:
            hidden = self.read(self.embed(read), prompt, 1, cache)
            return self.sample(self.model.logits(hidden), temperature)

        begin, end = (prompt.new_full((len(prompt), 1), token) for token in (self.begin, self.end))
        answer = [] if prefix is None else [token[:, None] for token in prefix.unbind(1)]
        unread = prompt
        for index in range(length):
            if index == self.force:
                unread = torch.cat([unread, begin], 1)
                for _ in range(self.span):
                    unread = write(unread)
                unread = torch.cat([unread, end], 1)
            if index == len(answer):
                answer.append(write(unread))
                unread = answer[index]
            else:
                unread = torch.cat([unread, answer[index]], 1)
        return torch.cat(answer, 1)
