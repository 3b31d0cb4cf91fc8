"""Linear probes against least squares position by position, and on states whose content is known."""

import numpy as np
import pytest
import torch
from helpers import STAR, gpt, random_gpt, rows

from forethought.evaluation import name_probes, probe_answers
from forethought.objectives import AnyOrder, NextToken, Teacherless
from forethought.objectives.plan_tokens import PlanTokens
from forethought.tasks import Addition, Data, Draws, PathStar

MIXED = PathStar(degree=3, path_length=4, min_degree=2, min_path_length=2, num_nodes=11)


@torch.no_grad()
def slow_states(objective, batch):
    """Return the states of each prompt, read alone (B, P, D)."""
    alone = (batch[i : i + 1] for i in range(len(batch)))
    return torch.cat([objective.read(objective.inputs(r.prompt, r.answer[:, :0]), r.prompt) for r in alone])


def slow_accuracy(dummy, fitted, tested, position, token):
    """Return the accuracy of one head: least squares with a row √λ for each weight but the bias.

    `fitted` and `tested` are rows and their states.
    """

    def select(batch, states):
        real = (batch.prompt[:, position] != dummy) & (batch.answer[:, token] != dummy)
        x = torch.nn.functional.pad(states[real, position], (0, 1), value=1.0)
        return x.numpy(), batch.answer[real, token].numpy()

    (x, y), (test_x, test_y) = select(*fitted), select(*tested)
    if not len(test_y):
        return float("nan")
    width = x.shape[1] - 1
    x = np.vstack([x, np.eye(width, width + 1)])  # √λ = 1
    target = np.vstack([np.eye(dummy)[y], np.zeros((width, dummy))])
    weights = np.linalg.lstsq(x, target, rcond=None)[0]
    return ((test_x @ weights).argmax(1) == test_y).mean()


@pytest.mark.parametrize(
    ("task", "kind", "mask"),
    [(STAR, NextToken, "prefix"), (MIXED, NextToken, "causal"), (STAR, PlanTokens, "causal")],
)
def test_probes_against_least_squares(task, kind, mask):
    objective = kind(random_gpt(task, mask=mask, extra=4), task)
    objective = objective.double()
    fitted, tested = task.sample(120, Draws(1)), task.sample(60, Draws(2))
    found = probe_answers(objective, fitted, tested)
    assert found.shape == (task.prompt_length, task.answer_length)
    read = [(batch, slow_states(objective, batch)) for batch in (fitted, tested)]
    expected = [
        [slow_accuracy(task.dummy, *read, p, a) for a in range(task.answer_length)]
        for p in range(task.prompt_length)
    ]
    np.testing.assert_allclose(found, expected)


def test_probes_on_known_states(monkeypatch):
    """The last position holds the answer, the one before noise, all others nothing."""
    task = Addition(digits=2)
    objective = NextToken(gpt(task), task)
    fitted, tested = task.sample(2500, Draws(1)), task.sample(1100, Draws(2))
    batches = {
        tuple(p): a for b in (fitted, tested) for p, a in zip(b.prompt.tolist(), b.answer, strict=True)
    }
    noise = torch.Generator().manual_seed(0)

    def read(inputs, prompt):
        answers = torch.stack([batches[tuple(row)] for row in prompt.tolist()])
        known = torch.nn.functional.one_hot(answers, len(task.vocabulary)).flatten(1).float()
        states = torch.zeros(len(prompt), prompt.shape[1], known.shape[1])
        states[:, -1], states[:, -2] = known, torch.randn(known.shape, generator=noise)
        return states

    monkeypatch.setattr(objective, "read", read)
    found = probe_answers(objective, fitted, tested)
    assert (found[-1] == 1).all()
    metrics = name_probes(found)
    assert metrics == {f"test/probe_accuracy_{a}": 1.0 for a in range(1, 1 + task.answer_length)}
    for a in range(task.answer_length):
        majority = fitted.answer[:, a].mode().values
        share = (tested.answer[:, a] == majority).double().mean()
        assert (found[:-2, a] == share).all()
        assert abs(found[-2, a] - share) < 0.06


def test_probes_never_see_test_rows(tmp_path):
    test_file = tmp_path / "rows.txt"
    lines = [STAR.text(p, a) for p, a in zip(*vars(rows(count=300)).values(), strict=True)]
    test_file.write_text("\n".join(lines) + "\n")
    for options in ({}, {"test_file": str(test_file)}):
        task = PathStar(degree=2, path_length=4, num_nodes=8, **options)
        data = Data(task, seed=0, batch_size=4)
        drawn = data.probe(3000)
        assert len(drawn) == 3000
        assert torch.equal(drawn.prompt[:50], data.probe(50).prompt)
        for held in (data.test(3000), data.validation(500)):
            assert not set(task.fingerprint(drawn).tolist()) & set(task.fingerprint(held).tolist())


def test_where_there_are_no_probes():
    batch = rows(count=100)
    for objective in (AnyOrder(gpt(), STAR), Teacherless(gpt(mask="full"), STAR)):
        assert probe_answers(objective, batch, batch) is None
    objective = Teacherless(gpt(), STAR)
    first, again = (probe_answers(objective, batch, batch) for _ in range(2))
    assert torch.equal(first, again)
    assert objective.training
