"""Ranking into the future: the logits rank all upcoming tokens, by a hinge for each pair."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from forethought.objectives.base import tokens_ahead
from forethought.objectives.next_token import NextToken
from forethought.tasks import Batch


class RankingIntoTheFuture(NextToken):
    """Ranking into the future (RITF): each answer token above the later ones, and these above all others.

    With prompt x, answer y_1 … y_A and σ_i the logits at the position that predicts y_i, the mean over
    all positions i and all pairs of tokens u ≻_i v of

        max(0, 1 - (σ_i[u] - σ_i[v]))

        input     x_1 … x_P                  y_1                  …  y_{A-1}
        ranking         y_1 ≻ … ≻ y_A ≻ v    y_2 ≻ … ≻ y_A ≻ v    …  y_A ≻ v      prompt tokens: no loss

    where v is every token that no longer occurs: on a star those are the nodes of the other arms, which
    the paper ranks below the right one, and here also the rest of the vocabulary. A token that occurs
    twice ranks by its nearer position. The hinges replace the cross-entropy; the likeliest token is
    still the next one, so decoding is that of next-token prediction.

    Source: Frydenlund, "Language Models, Graph Searching, and Supervision Adulteration", ACL 2025
    (2503.10542), ranking-into-the-future; a mean where the paper has a sum over pairs.
    """

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        logits = self.answer_logits(batch)
        # Autocast does not cover hinges: bf16 would round each of them and their sum.
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        length = batch.answer.shape[1]
        ahead = tokens_ahead(batch.answer, len(self.task.vocabulary))
        answer = batch.answer[:, None].expand(-1, length, -1)
        positions = torch.arange(length, device=answer.device)
        distance = positions - positions[:, None] + 1
        # Positions j at which y_j is upcoming for position i, and does not repeat a nearer token.
        upper = ahead.gather(2, answer) == distance
        above = upper[..., None] & (ahead[:, :, None] > distance[..., None])
        hinge = F.relu(1 - (logits.gather(2, answer)[..., None] - logits[:, :, None]))
        return (hinge * above).sum() / above.sum()
