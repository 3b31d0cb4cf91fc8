"""Metrics on likelihood, of a model whose next token depends on the last one alone, by hand."""

import itertools
import math
from itertools import pairwise, takewhile

import pytest
import torch
from helpers import gpt

from forethought.evaluation import diagnose
from forethought.objectives import Objective
from forethought.tasks import Batch, Draws, TypicalSet
from forethought.validation import validated_dataclass

SIZE = {"symbols": 4, "branching": 2, "loop_probability": 0.5, "answer_symbols": 3, "tolerance": 0.2}


@validated_dataclass
class Ended(TypicalSet):
    """The same chain, which ends after its first b2."""

    @property
    def end(self):
        return 2

    def sample(self, count, draws):
        batch = super().sample(count, draws)
        return Batch(batch.prompt, self.trim(batch.answer))

    def log_probability(self, prompt, answer):
        of_tokens = self._probabilities(prompt, answer).gather(2, answer[..., None])[..., 0]
        return of_tokens.log().where(answer != self.dummy, 0).sum(1)


class Table(Objective):
    """q(next token | last token) from a table, in which `$`, never written, is the likeliest."""

    def __init__(self, task):
        super().__init__(gpt(task, layers=1), task)
        size = len(task.vocabulary)
        self.table = torch.randn(size, size, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        self.q = self.table[:, :-1].softmax(1).tolist()
        self.table[:, -1] = 50

    def loss(self, batch):
        raise NotImplementedError

    def answer_logits(self, batch):
        return self.table[torch.cat([batch.prompt[:, -1:], batch.answer[:, :-1]], 1)]

    def decode(self, prompt, length, prefix=None, temperature=0.0):
        answer = prompt[:, :0] if prefix is None else prefix
        while answer.shape[1] < length:
            last = torch.cat([prompt, answer], 1)[:, -1]
            answer = torch.cat([answer, self.sample(self.table[last], temperature)[:, None]], 1)
        return answer


def truth(before):
    """Return p(next token | last token): a with 1/2, and the next two with 1/4 each."""
    after = {0: 0.5, before % 4 + 1: 0.25, (before + 1) % 4 + 1: 0.25}
    return [after.get(token, 0.0) for token in range(5)]


def mean(values):
    return sum(values) / len(values)


@pytest.mark.parametrize("task", [TypicalSet(**SIZE), Ended(**SIZE)], ids=["fixed", "ended"])
def test_metrics_by_hand(task):
    objective, rows = Table(task), task.sample(150, Draws(0))
    metrics = diagnose(objective, task, rows, chunk=60)
    written = objective.generate(rows.prompt, 3)
    assert (written == task.dummy).any() == (rows.answer == task.dummy).any() == (task.end is not None)
    losses, entropies, true_losses, divergences, loops = [], [], [], [], []
    for prompt, own, true in zip(rows.prompt.tolist(), written.tolist(), rows.answer.tolist(), strict=True):
        own, true = ([*takewhile(lambda token: token != task.dummy, side)] for side in (own, true))
        possible, true_loss = True, 0.0
        for before, after in pairwise([prompt[-1], *own]):
            losses.append(-math.log(objective.q[before][after]))
            entropies.append(sum(-q * math.log(q) for q in objective.q[before]))
            possible &= truth(before)[after] > 0
            true_loss -= math.log(truth(before)[after] or 1)
        true_losses += [true_loss / len(own)] * possible
        divergence = 0.0
        for before in [prompt[-1], *true][: len(true)]:
            for p, q in zip(truth(before), objective.q[before], strict=True):
                divergence += p * math.log(p / q) if p else 0.0
        divergences.append(divergence)
        loops.append(objective.q[prompt[-1]][0] * objective.q[0][0] ** 2)
    assert 0 < len(true_losses) < len(rows)
    assert metrics["written_loss"] == pytest.approx(mean(losses))
    assert metrics["written_entropy"] == pytest.approx(mean(entropies))
    assert metrics["written_true_loss"] == pytest.approx(mean(true_losses))
    assert metrics["kl_from_truth"] == pytest.approx(mean(divergences))
    assert metrics["likelihood_loop"] == pytest.approx(mean(loops))
    assert metrics["true_likelihood_loop"] == pytest.approx(0.5**3)


def test_the_divergence_is_that_of_whole_answers():
    """Over rows that hold each answer as often as it is likely."""
    task = TypicalSet(**SIZE)
    objective, prompt, answers, expected = Table(task), [1, 2, 0, 3], [], 0.0
    for answer in itertools.product(range(5), repeat=3):
        p, q = 1.0, 1.0
        for before, after in pairwise([prompt[-1], *answer]):
            p, q = p * truth(before)[after], q * objective.q[before][after]
        expected += p * math.log(p / q) if p else 0.0
        answers += [answer] * int(64 * p)
    assert len(answers) == 64
    rows = Batch(torch.tensor([prompt] * 64), torch.tensor(answers))
    assert diagnose(objective, task, rows)["kl_from_truth"] == pytest.approx(expected)
