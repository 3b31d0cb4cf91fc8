"""Ranking into the future against its formula written out in loops, in float64."""

import pytest
import torch
from helpers import STAR, SUM, gpt, rows, with_random_weights

from forethought.objectives.base import tokens_ahead
from forethought.objectives.ranking_into_the_future import RankingIntoTheFuture


def build(task=STAR, mask="causal"):
    return with_random_weights(RankingIntoTheFuture(gpt(task, mask=mask), task))


def slow_loss(objective, batch):
    hinges = []
    for prompt, answer in zip(batch.prompt.tolist(), batch.answer.tolist(), strict=True):
        for i in range(len(answer)):
            read = torch.tensor([prompt + answer[:i]])
            sigma = objective.model.logits(objective.model(read, len(prompt))[0, -1])
            ranking = list(dict.fromkeys(answer[i:]))
            for rank, upper in enumerate(ranking):
                rest = set(range(len(sigma))) - set(ranking)
                for lower in ranking[rank + 1 :] + sorted(rest):
                    hinges.append(max(0, 1 - (sigma[upper] - sigma[lower]).item()))
    return sum(hinges) / len(hinges)


@pytest.mark.parametrize("task", [STAR, SUM])
@pytest.mark.parametrize("mask", ["causal", "prefix"])
def test_loss(task, mask):
    objective = build(task, mask=mask)
    assert objective.loss(rows(task)).item() == pytest.approx(slow_loss(objective, rows(task)))


def test_tokens_ahead_by_hand():
    """0904: the nearer 0 counts; a token that no longer occurs is 5 ahead."""
    ahead = tokens_ahead(torch.tensor([[0, 9, 0, 4]]), len(SUM.vocabulary))[0]
    assert ahead[:, [0, 9, 4]].tolist() == [[1, 2, 4], [2, 1, 3], [1, 5, 2], [5, 5, 1]]
    assert (ahead[:, [1, 2, 3, 5, 6, 7, 8, 10, 11, 12]] == 5).all()


def test_a_perfect_ranking_costs_nothing_and_another_one_does():
    objective, batch = build(), rows(count=1)
    ranked = -tokens_ahead(batch.answer, len(STAR.vocabulary)).double()
    objective.answer_logits = lambda _: ranked
    assert objective.loss(batch).item() == 0
    for first, second in ((0, 1), (2, 3)):
        swapped = ranked.clone()
        pair = batch.answer[0, [first, second]]
        swapped[0, 0, pair] = ranked[0, 0, pair.flip(0)]
        objective.answer_logits = lambda _, swapped=swapped: swapped
        assert objective.loss(batch).item() > 0
