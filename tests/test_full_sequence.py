"""The loss on prompt and answer, against one prediction at a time."""

import pytest
import torch
import torch.nn.functional as F
from helpers import STAR, gpt, rows, with_large_weights

from forethought.objectives import FullSequence, NextToken
from forethought.tasks import PathStar


@pytest.mark.parametrize("task", [STAR, PathStar(path_length=4, min_path_length=2)], ids=["fixed", "mixed"])
def test_loss_is_the_mean_over_all_written_tokens_but_the_first(task):
    objective = with_large_weights(FullSequence(gpt(task), task))
    batch, losses = rows(task, 6), []
    for prompt, answer in zip(batch.prompt, batch.answer, strict=True):
        written = torch.cat([prompt, answer])
        padding = int((prompt == task.dummy).sum())
        for place in range(padding + 1, len(written)):
            if written[place] == task.dummy:
                break
            prefix = written[None, :place]
            hidden = objective.read(prefix, prompt[None, :place])
            losses.append(F.cross_entropy(objective.model.logits(hidden)[:, -1], written[place : place + 1]))
    assert objective.loss(batch).item() == pytest.approx(torch.stack(losses).mean().item(), rel=1e-5)


def test_it_answers_as_next_token_prediction_does():
    objective = with_large_weights(FullSequence(gpt(), STAR))
    plain, batch = NextToken(objective.model, STAR), rows(count=8)
    assert torch.equal(objective.answer_logits(batch), plain.answer_logits(batch))
    assert torch.equal(objective.generate(batch.prompt, 4), plain.generate(batch.prompt, 4))
