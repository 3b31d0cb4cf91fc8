"""The policy gradient against its formula in loops, and against the gradient of the expected reward."""

import copy
import itertools
import math
import statistics

import pytest
import torch
from helpers import SHORT_STAR, STAR, gpt, learns, next_logits, random_gpt, rows

from forethought.objectives import NextToken
from forethought.objectives.policy_gradient import PolicyGradient
from forethought.objectives.sampling import sample_answers
from forethought.tasks import Batch, PathStar


class Parity(PathStar):
    """Accepts every other answer, so that right and wrong samples are both common."""

    def check(self, prompt, answer):
        return answer.sum(1) % 2


PARITY = Parity(degree=2, path_length=2, num_nodes=3)


def small(task=SHORT_STAR, std=0.3, **changed):
    return random_gpt(task, std, layers=1, **changed)


def token_log_likelihoods(model, prompt, answer, temperature):
    """log π of each answer token, reading everything anew for each."""
    values = []
    for i, token in enumerate(answer):
        logits = next_logits(model, prompt, answer[:i])[:-1] / temperature
        values.append(logits[token] - logits.exp().sum().log())
    return values


def slow_loss(model, old, drawn, samples, temperature, advantage, clip):
    """The docstring's formula, for each prompt, sample and token."""
    total, clipped = [], 0
    for start in range(0, len(drawn), samples):
        group = [(drawn.prompt[i].tolist(), drawn.answer[i].tolist()) for i in range(start, start + samples)]
        rewards = [1.0 if sum(answer) % 2 == 0 else 0.0 for _, answer in group]
        for k, (prompt, answer) in enumerate(group):
            if advantage == "leave_one_out":
                compared = rewards[k] - statistics.mean(rewards[:k] + rewards[k + 1 :])
            elif (deviation := statistics.pstdev(rewards)) == 0:
                compared = 0.0
            else:
                compared = (rewards[k] - statistics.mean(rewards)) / deviation
            new = token_log_likelihoods(model, prompt, answer, temperature)
            before = token_log_likelihoods(old, prompt, answer, temperature)
            for now, then in zip(new, before, strict=True):
                ratio = math.exp(now.item() - then.item())
                bounded = min(max(ratio, 1 - clip), 1 + clip)
                clipped += bounded * compared < ratio * compared
                total.append(-min(ratio * compared, bounded * compared))
    return sum(total) / len(total), clipped


@pytest.mark.parametrize("mask", ["causal", "prefix"])
@pytest.mark.parametrize("advantage", ["leave_one_out", "group"])
def test_loss_of_answers_from_an_older_model(mask, advantage):
    model = small(PARITY, mask=mask)
    options = {"samples": 5, "temperature": 0.7, "advantage": advantage, "clip": 0.1}
    objective = PolicyGradient(model, PARITY, refresh=2, **options)
    objective.loss(rows(SHORT_STAR))
    objective.steps = 1
    old = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    torch.manual_seed(1)
    drawn = sample_answers(NextToken(old, PARITY), PARITY, rows(SHORT_STAR).prompt, 5, 0.7)
    torch.manual_seed(1)
    loss = objective.loss(rows(SHORT_STAR))
    expected, clipped = slow_loss(model, old, drawn, **options)
    assert loss.item() == pytest.approx(expected, rel=1e-5)  # 1e-6 beside the std
    assert 0 < clipped < drawn.answer.numel()


def test_on_policy_gradient_is_reinforce():
    """`refresh=1`: the loss is 0, its gradient that of -Â log π, each token written out."""
    model = small(PARITY)
    objective = PolicyGradient(model, PARITY, samples=4)
    torch.manual_seed(1)
    drawn = sample_answers(objective, PARITY, rows(SHORT_STAR).prompt, 4, 1.0)
    torch.manual_seed(1)
    loss = objective.loss(rows(SHORT_STAR))
    assert loss.item() == pytest.approx(0, abs=1e-12)
    found = torch.autograd.grad(loss, list(model.parameters()))
    total = []
    for start in range(0, len(drawn), 4):
        rewards = [1.0 - int(drawn.answer[start + k].sum()) % 2 for k in range(4)]
        for k in range(4):
            compared = rewards[k] - (sum(rewards) - rewards[k]) / 3
            prompt, answer = drawn.prompt[start + k].tolist(), drawn.answer[start + k].tolist()
            total += [-compared * value for value in token_log_likelihoods(model, prompt, answer, 1.0)]
    expected = torch.autograd.grad(sum(total) / len(total), list(model.parameters()))
    torch.testing.assert_close(found, expected)


def test_gradient_is_that_of_the_expected_reward():
    """Over many samples, against all 36 answers weighted by their probability."""
    temperature, batch = 0.7, rows(SHORT_STAR, 2)
    model = small(std=0.2)
    objective = PolicyGradient(model, SHORT_STAR, samples=5000, temperature=temperature)
    reward = torch.zeros(())
    for answer in itertools.product(range(SHORT_STAR.dummy), repeat=SHORT_STAR.answer_length):
        answers = torch.tensor([answer]).expand(2, -1)
        for row in (SHORT_STAR.check(batch.prompt, answers) == 0).nonzero().flatten().tolist():
            prompt = batch.prompt[row].tolist()
            reward = reward + sum(token_log_likelihoods(model, prompt, list(answer), temperature)).exp() / 2
    expected = torch.autograd.grad(-reward / SHORT_STAR.answer_length, list(model.parameters()))
    torch.manual_seed(3)
    found = torch.autograd.grad(objective.loss(batch), list(model.parameters()))
    expected, found = (torch.cat([part.flatten() for part in parts]) for parts in (expected, found))
    assert (found - expected).norm() < 0.2 * expected.norm()


class TestDivergence:
    def objective(self, **options):
        model = small(PARITY)
        return PolicyGradient(model, PARITY, samples=3, temperature=0.7, kl_weight=0.5, **options)

    def test_against_its_formula(self):
        """Equal rewards, so that the divergence alone is left."""
        objective = self.objective()
        objective.rewards = lambda batch, drawn: torch.ones(len(drawn))
        objective.loss(rows(SHORT_STAR))  # step 0: the reference is the model
        reference, objective.steps = copy.deepcopy(objective.model), 1
        with torch.no_grad():
            for parameter in objective.model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        torch.manual_seed(1)
        drawn = sample_answers(objective, PARITY, rows(SHORT_STAR).prompt, 3, 0.7)
        torch.manual_seed(1)
        loss = objective.loss(rows(SHORT_STAR))
        total = []
        for prompt, answer in zip(drawn.prompt.tolist(), drawn.answer.tolist(), strict=True):
            new = token_log_likelihoods(objective.model, prompt, answer, 0.7)
            old = token_log_likelihoods(reference, prompt, answer, 0.7)
            ratios = [(b - a).exp() for a, b in zip(new, old, strict=True)]
            total += [ratio - ratio.log() - 1 for ratio in ratios]
        expected = 0.5 * sum(total) / len(total)
        assert expected > 1e-3
        torch.testing.assert_close(loss, expected)
        weights = [*objective.model.parameters()]
        torch.testing.assert_close(torch.autograd.grad(loss, weights), torch.autograd.grad(expected, weights))

    def test_the_reference_is_the_model_of_step_0_also_across_a_checkpoint(self):
        first = self.objective()
        start = copy.deepcopy(first.model.state_dict())
        for first.steps in (0, 1):
            first.loss(rows(SHORT_STAR))
            with torch.no_grad():
                first.model.norm.bias.add_(0.1)
        second = self.objective()
        second.load_state_dict(first.state_dict())
        second.steps = 2
        second.loss(rows(SHORT_STAR))
        for objective in (first, second):
            torch.testing.assert_close(objective.reference.model.state_dict(), start, rtol=0, atol=0)
        assert not any(parameter.requires_grad for parameter in second.reference.parameters())


@pytest.mark.parametrize(
    ("reward", "expected"),
    [("exact", [1, 0, 0, 0]), ("first_hop", [1, 1, 0, 0]), ("share", [1, 0.75, 0.75, 0.25])],
)
def test_rewards(reward, expected):
    """Of the true path, one that ends in a wrong node, one that begins wrong, and a copied start."""
    batch = rows(STAR, 1)
    a, b, c, d = batch.answer[0].tolist()
    arm = STAR.distract(batch)[0].tolist()
    answers = torch.tensor([[a, b, c, b], [a, arm[1], c, d], [a, *arm[1:]]])
    drawn = Batch(batch.prompt.expand(4, -1), torch.cat([batch.answer, answers]))
    objective = PolicyGradient(gpt(), STAR, samples=4, reward=reward)
    assert objective.rewards(batch, drawn).tolist() == expected


def test_the_share_of_a_shorter_answer_counts_its_own_tokens():
    task = PathStar(degree=2, path_length=4, min_path_length=2)
    batch = rows(task, 20)
    batch = batch[(batch.answer != task.dummy).sum(1) == 3][:1]
    objective = PolicyGradient(gpt(task), task, samples=2, reward="share")
    wrong = torch.full_like(batch.answer, task.dummy)
    drawn = Batch(batch.prompt.expand(2, -1), torch.cat([batch.answer, wrong]))
    assert objective.rewards(batch, drawn).tolist() == [1, 0]


def test_the_true_answer_is_never_read():
    objective = PolicyGradient(small(PARITY), PARITY, samples=4)
    batch = rows(SHORT_STAR)

    def gradient(batch):
        torch.manual_seed(1)
        return torch.autograd.grad(objective.loss(batch), list(objective.parameters()))

    torch.testing.assert_close(
        gradient(Batch(batch.prompt, batch.answer.flip(1))), gradient(batch), rtol=0, atol=0
    )


@pytest.mark.parametrize("advantage", ["leave_one_out", "group"])
@pytest.mark.parametrize("reward", [0, 1])
def test_equal_rewards_teach_nothing(advantage, reward):
    class Same(PathStar):
        def check(self, prompt, answer):
            return torch.full_like(answer[:, 0], 1 - reward)

    task = Same(degree=2, path_length=2, num_nodes=3)
    objective = PolicyGradient(small(task), task, samples=4, advantage=advantage)
    objective.loss(rows(SHORT_STAR)).backward()
    assert all(parameter.grad.abs().max() == 0 for parameter in objective.parameters())


def test_prompt_tokens_and_the_frozen_copy_carry_no_loss():
    model = small(PARITY)
    objective = PolicyGradient(model, PARITY, samples=4, refresh=2)
    objective.loss(rows(SHORT_STAR))
    objective.steps = 1
    with torch.no_grad():
        model.blocks[0].mlp.output.bias.add_(0.1)
    seen = []
    model.logits = lambda hidden, plain=model.logits: (seen.append(hidden.shape[1]), plain(hidden))[1]
    objective.loss(rows(SHORT_STAR)).backward()
    assert seen == [SHORT_STAR.answer_length]
    assert all(parameter.grad is None for parameter in objective.frozen.parameters())
    assert all(parameter.grad is not None for parameter in model.parameters())
    trained = [name for name, parameter in objective.named_parameters() if parameter.requires_grad]
    assert trained == [f"model.{name}" for name, _ in model.named_parameters()]


def test_the_copy_is_refreshed_every_so_many_steps_and_across_a_checkpoint():
    def stale(objective):
        pairs = zip(objective.model.parameters(), objective.frozen.parameters(), strict=True)
        return not all(torch.equal(own, old) for own, old in pairs)

    def step(objective, *steps):
        history = []
        for objective.steps in steps:
            with torch.no_grad():
                objective.model.norm.bias.add_(0.1)
            objective.loss(rows(SHORT_STAR))
            history.append(stale(objective))
        return history

    first = PolicyGradient(small(PARITY), PARITY, samples=2, refresh=3)
    assert step(first, 0, 1, 2, 3, 4) == [False, True, True, False, True]
    second = PolicyGradient(small(PARITY, std=0.1), PARITY, samples=2, refresh=3)
    second.load_state_dict(first.state_dict())
    assert stale(second)
    assert step(second, 5, 6, 7) == step(first, 5, 6, 7) == [True, False, True]
    first.eval()
    assert step(first, 8, 9, 10) == [True, True, True]  # an evaluation is no step


@pytest.mark.parametrize(
    "options",
    [
        # 15 s, 290 steps; test_every_objective.py learns shorter answers by heart in 2 s.
        pytest.param({}, id="reinforce", marks=pytest.mark.slow),
        pytest.param({"advantage": "group", "refresh": 4}, id="grpo"),
    ],
)
@pytest.mark.slow
def test_overfits_one_batch_from_a_next_token_model(options):
    """As after `init_from`: some answers are right now and then, and reward does the rest."""
    model, batch = gpt(width=32), rows(STAR, 8)
    assert not learns(NextToken(model, STAR), batch, 60)
    objective = PolicyGradient(model, STAR, samples=32, **options)
    assert learns(objective, batch, 400, lr=1e-3), objective.diagnostics(batch, objective.task)
