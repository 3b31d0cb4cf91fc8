"""Best of k against its formula in loops, and the collapse that judging by likelihood brings."""

import pytest
import torch
from helpers import STAR, gpt, learns, negative_log, next_logits, random_gpt, rows

from forethought.objectives import NextToken
from forethought.objectives.best_of_k import BestOfK
from forethought.objectives.sampling import sample_answers
from forethought.tasks import Batch, PathStar


class Modulo(PathStar):
    """Accepts about every fifth answer, so that some prompts have a right sample and some have none."""

    def check(self, prompt, answer):
        return (answer.sum(1) % 5).clamp(max=1)


MODULO = Modulo(degree=2, path_length=4, num_nodes=8)


def small(task=STAR, **changed):
    return random_gpt(task, layers=1, **changed)


def token_losses(model, prompt, answer, vocabulary=None):
    return [
        negative_log(next_logits(model, prompt, answer[:i])[:vocabulary], token)
        for i, token in enumerate(answer)
    ]


def slow_loss(model, drawn, samples, judge):
    total, skipped = [], 0
    for start in range(0, len(drawn), samples):
        prompt = drawn.prompt[start].tolist()
        answers = drawn.answer[start : start + samples].tolist()
        if judge == "likelihood":
            best = min(answers, key=lambda answer: sum(token_losses(model, prompt, answer, STAR.dummy)))
        else:
            best = next((answer for answer in answers if sum(answer) % 5 == 0), None)
        if best is None:
            skipped += 1
        else:
            total.append(sum(token_losses(model, prompt, best)) / len(best))
    return sum(total) / len(total), skipped


@pytest.mark.parametrize("mask", ["causal", "prefix"])
@pytest.mark.parametrize("judge", ["likelihood", "task"])
def test_loss(mask, judge):
    model = small(mask=mask)
    objective = BestOfK(model, MODULO, samples=4, judge=judge, temperature=1.5)
    torch.manual_seed(1)
    drawn = sample_answers(NextToken(model, MODULO), MODULO, rows(count=6).prompt, 4, 1.5)
    torch.manual_seed(1)
    loss = objective.loss(rows(count=6))
    expected, skipped = slow_loss(model, drawn, 4, judge)
    assert loss.item() == pytest.approx(expected)
    assert (0 < skipped < 6) == (judge == "task")


def test_without_a_right_sample_there_is_nothing_to_learn():
    class Strict(PathStar):
        def check(self, prompt, answer):
            return torch.ones_like(answer[:, 0])

    task = Strict(degree=2, path_length=4, num_nodes=8)
    objective = BestOfK(small(task), task, samples=4, judge="task")
    loss = objective.loss(rows(count=6))
    loss.backward()
    assert loss.item() == 0
    assert all(parameter.grad.abs().max() == 0 for parameter in objective.parameters())


def test_the_choice_carries_no_gradient():
    """The gradient is that of next-token prediction on the chosen answers."""
    objective = BestOfK(small(), STAR, samples=4, judge="likelihood")
    parameters = list(objective.parameters())
    torch.manual_seed(1)
    best, kept = objective.best_answers(rows(count=6))
    assert kept.all()
    expected = torch.autograd.grad(NextToken(objective.model, STAR).loss(best), parameters)
    torch.manual_seed(1)
    torch.testing.assert_close(torch.autograd.grad(objective.loss(rows(count=6)), parameters), expected)


def test_neither_the_true_answer_nor_prompt_tokens_carry_loss():
    objective = BestOfK(small(), STAR, samples=4, judge="likelihood")
    model, batch, seen = objective.model, rows(count=6), []
    model.logits = lambda hidden, plain=model.logits: (seen.append(hidden.shape[1]), plain(hidden))[1]
    torch.manual_seed(1)
    loss = objective.loss(batch)
    assert seen[-1] == STAR.answer_length
    torch.manual_seed(1)
    assert torch.equal(objective.loss(Batch(batch.prompt, batch.answer.flip(1))), loss)


@pytest.mark.slow
def test_overfits_one_batch_from_a_next_token_model():
    """As after `init_from`: some answers are right now and then, and choosing does the rest."""
    objective, batch = BestOfK(gpt(width=32), STAR, samples=32, judge="task"), rows(count=8)
    assert not learns(NextToken(objective.model, STAR), batch, 60)
    assert learns(objective, batch, 200, lr=1e-3), objective.diagnostics(batch, objective.task)


def test_its_own_likelihood_as_judge_collapses_to_low_entropy_without_learning():
    """The model becomes certain of one answer a prompt, without becoming more accurate."""
    objective, batch = BestOfK(gpt(width=32, layers=1), STAR), rows(count=8)

    def mean(name):
        return objective.diagnostics(batch, objective.task)[name].mean().item()

    entropy = [mean("answer_entropy")]
    assert entropy[0] > 0.9 * torch.tensor(float(len(STAR.vocabulary))).log()
    assert mean("distinct_answers") > 0.9
    for _ in range(3):
        assert not learns(objective, batch, 20)
        entropy.append(mean("answer_entropy"))
    assert entropy == sorted(entropy, reverse=True)
    assert entropy[-1] < 0.1 * entropy[0]
    assert mean("distinct_answers") < 0.3
    assert mean("sampled_reward") < 0.1
