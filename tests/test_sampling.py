"""Sampling and its metrics, as used by the objectives that learn from sampled answers."""

import pytest
import torch
from helpers import SHORT_STAR, next_logits, random_gpt, rows

from forethought.objectives import NextToken
from forethought.objectives.sampling import log_likelihood, sample_answers, sampled_metrics


def objective(std=0.3):
    return NextToken(random_gpt(SHORT_STAR, std, layers=1), SHORT_STAR)


def prompts(count=4):
    return rows(SHORT_STAR, count).prompt


def test_samples_follow_the_model():
    """The share of each answer among many, against its likelihood; the samples of a prompt are neighbours."""
    policy, prompt = objective(), prompts(2)
    drawn = sample_answers(policy, SHORT_STAR, prompt, 5000, 0.7)
    assert torch.equal(drawn.prompt, torch.cat([prompt[:1].expand(5000, -1), prompt[1:].expand(5000, -1)]))
    for group in (drawn[:5000], drawn[5000:]):
        kinds, counts = group.answer.unique(dim=0, return_counts=True)
        likelihood = log_likelihood(policy, type(drawn)(group.prompt[: len(kinds)], kinds), 0.7).sum(1).exp()
        torch.testing.assert_close(counts / 5000, likelihood.float(), atol=0.03, rtol=0)


def slow_metrics(policy, prompt, answers, temperature):
    """For one prompt: share right, any right, mean entropy, share not seen before."""
    right, entropies, seen = 0, [], []
    for answer in answers:
        right += SHORT_STAR.check(prompt[None], torch.tensor([answer])).item() == 0
        for i in range(len(answer)):
            p = (next_logits(policy.model, prompt.tolist(), answer[:i])[:-1] / temperature).softmax(0)
            entropies.append(-sum(share * share.log() for share in p).item())
        seen += [answer] if answer not in seen else []
    return right / len(answers), float(right > 0), sum(entropies) / len(entropies), len(seen) / len(answers)


@torch.no_grad()
def test_metrics():
    policy, prompt, drawn = objective(std=0.6), prompts(6), []
    policy.generate = lambda *args, plain=policy.generate, **options: (
        drawn.append(plain(*args, **options)),
        drawn[-1],
    )[1]
    found = sampled_metrics(policy, SHORT_STAR, prompt, 7, 0.8)
    names = ("sampled_reward", "pass_at_k", "answer_entropy", "distinct_answers")
    assert tuple(found) == names
    for row in range(6):
        answers = [answer[row].tolist() for answer in drawn]
        expected = slow_metrics(policy, prompt[row], answers, 0.8)
        assert [found[name][row].item() for name in names] == pytest.approx(expected, rel=1e-5)
    assert 1 / 7 <= found["distinct_answers"].min() < found["distinct_answers"].max() <= 1


def test_metrics_are_the_same_every_time_and_leave_the_random_numbers_alone():
    policy, prompt = objective(), prompts()
    torch.manual_seed(5)
    first = sampled_metrics(policy, SHORT_STAR, prompt, 4, 1.0)
    following = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(3), following)
    again = sampled_metrics(policy, SHORT_STAR, prompt, 4, 1.0)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(values.requires_grad for values in first.values())
