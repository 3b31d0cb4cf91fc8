"""Ranking into the future: the logits rank all tokens to come, by a hinge for each pair."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from forethought.objectives.next_token import NextToken
from forethought.tasks import Batch


class RankingIntoTheFuture(NextToken):
    """Ranking into the future (RITF): each answer token above the later ones, and these above all others.

    With prompt x, answer y_1 … y_A and σ_i the logits at the position that predicts y_i, the mean over
    all positions i and all pairs of tokens u ≻_i v of

        max(0, 1 - (σ_i[u] - σ_i[v]))

        input     x_1 … x_P                  y_1                  …  y_{A-1}
        ranking         y_1 ≻ … ≻ y_A ≻ v    y_2 ≻ … ≻ y_A ≻ v    …  y_A ≻ v      prompt tokens: no loss

    where v is every token that comes no more: on a star those are the nodes of the other arms, which the
    paper ranks below the right one, and here also the rest of the vocabulary. A token that comes twice
    ranks by its nearer place. The hinges take the place of the cross-entropy; the likeliest token is
    still the next one, so decoding is that of next-token prediction.

    Source: Frydenlund, "Language Models, Graph Searching, and Supervision Adulteration", ACL 2025
    (2503.10542), ranking-into-the-future; a mean where the paper has a sum over pairs.
    """

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        logits = self.answer_logits(batch)
        # Autocast knows no hinge: in bf16 it and the sum of many would be rounded.
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        place = self.places(batch.answer)
        where = batch.answer[:, None].expand(-1, batch.answer.shape[1], -1)
        steps = torch.arange(where.shape[1], device=where.device)
        # Places j that are y_j's own for position i: not past, and not a repetition of a nearer one.
        upper = place.gather(2, where) == steps
        above = upper[..., None] & (place[:, :, None] > steps[:, None])
        hinge = F.relu(1 - (logits.gather(2, where)[..., None] - logits[:, :, None]))
        return (hinge * above).sum() / above.sum()

    def places(self, answer: Int[Tensor, "B A"]) -> Int[Tensor, "B A V"]:
        """Where in the answer each token of the vocabulary next comes, from each position; A if never."""
        rows, length = answer.shape
        steps = torch.arange(length, device=answer.device)
        never = steps.new_full((rows, length, len(self.task.vocabulary)), length)
        where = answer[:, None].expand(-1, length, -1)
        to_come = torch.where(steps >= steps[:, None], steps, length)
        return never.scatter_reduce(2, where, to_come.expand(rows, -1, -1), "amin")
