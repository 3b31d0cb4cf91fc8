"""Value-guided decoding against its formulas in loops, and against the optimum that it promises."""

import copy
import itertools
import math

import pytest
import torch
from helpers import SHORT_STAR, STAR, gpt, learns, next_logits, random_gpt, rows, with_random_weights

from forethought.objectives import NextToken, ValueGuided
from forethought.objectives.sampling import sample_answers
from forethought.tasks import Batch, PathStar


class Parity(PathStar):
    """Accepts every other answer, so that right and wrong samples are both common."""

    def check(self, prompt, answer):
        return answer.sum(1) % 2


PARITY = Parity(degree=2, path_length=2, num_nodes=3)
RAGGED = Parity(degree=2, path_length=3, min_path_length=2)  # an end token, and padding after it


def build(task=PARITY, mask="causal", **options):
    """Both models with random weights of their own."""
    return with_random_weights(ValueGuided(random_gpt(task, layers=1, mask=mask), task, **options))


@pytest.mark.parametrize(("task", "mask"), [(PARITY, "prefix"), (RAGGED, "causal")])
def test_loss_of_the_policys_own_answers_and_all_its_gradients(task, mask):
    objective, batch = build(task, mask), rows(task, 6)
    torch.manual_seed(1)
    drawn = sample_answers(NextToken(objective.model, task), task, batch.prompt, 1, 1.0)
    assert ((drawn.answer == task.dummy).any() == (task is RAGGED)).item()
    slow = []
    for prompt, answer in zip(drawn.prompt.tolist(), drawn.answer.tolist(), strict=True):
        prompt = [token for token in prompt if token != task.dummy]
        right = sum(answer) % 2 == 0
        for i, token in enumerate(answer):
            if token != task.dummy:
                p = 1 / (1 + (-next_logits(objective.classifier.model, prompt, answer[:i])[token]).exp())
                slow.append(-p.log() if right else -(1 - p).log())
    slow = sum(slow) / len(slow)
    torch.manual_seed(1)
    fast = objective.loss(batch)
    torch.testing.assert_close(fast, slow)
    weights = list(objective.classifier.parameters())
    torch.testing.assert_close(torch.autograd.grad(fast, weights), torch.autograd.grad(slow, weights))


@pytest.mark.parametrize("variant", ["q_sharp", "cd"])
@torch.no_grad()
def test_decoded_distribution(variant):
    """π ∝ π_ref · exp(Q / η), for every token of the vocabulary."""
    objective, batch, eta = build(variant=variant, eta=0.3), rows(SHORT_STAR), 0.3
    logits = objective.answer_logits(batch)
    for row, (prompt, answer) in enumerate(zip(batch.prompt.tolist(), batch.answer.tolist(), strict=True)):
        for i in range(len(answer)):
            reference = next_logits(objective.model, prompt, answer[:i]).softmax(0).tolist()
            z = next_logits(objective.classifier.model, prompt, answer[:i]).tolist()
            weights = []
            for share, logit in zip(reference, z, strict=True):
                p = 1 / (1 + math.exp(-logit))
                q = eta * math.log((1 - p) * math.exp(0 / eta) + p * math.exp(1 / eta))
                weights.append(share * math.exp((p if variant == "cd" else q) / eta))
            expected = torch.tensor(weights, dtype=torch.float64) / sum(weights)
            torch.testing.assert_close(logits[row, i].softmax(0), expected)


@torch.no_grad()
def test_a_perfect_classifier_gives_the_optimum():
    """Q♯ then samples each answer y with probability ∝ π_ref(y) exp(r(y) / η), the optimum in closed form."""
    objective, eta = build(eta=0.5), 0.5
    answers = torch.tensor(list(itertools.product(range(PARITY.dummy), repeat=2)))
    batch = Batch(rows(PARITY, 1).prompt.expand(len(answers), -1), answers)

    def likelihood(logits):
        logits = logits[..., : PARITY.dummy].log_softmax(2)
        return logits.gather(2, answers[..., None])[..., 0].sum(1).exp()

    reference = likelihood(NextToken(objective.model, PARITY).answer_logits(batch))
    right = (PARITY.check(batch.prompt, answers) == 0).double()
    z = torch.zeros(len(answers), 2, len(PARITY.vocabulary), dtype=torch.float64)
    for row, place, token in itertools.product(range(len(answers)), range(2), range(PARITY.dummy)):
        prefix = torch.cat([answers[row, :place], torch.tensor([token])])
        goes_on = (answers[:, : place + 1] == prefix).all(1)
        p = (reference * right)[goes_on].sum() / reference[goes_on].sum()
        z[row, place, token] = torch.logit(p, eps=1e-12)
    objective.classifier.answer_logits = lambda batch: z
    optimum = reference * (right / eta).exp()
    torch.testing.assert_close(likelihood(objective.answer_logits(batch)), optimum / optimum.sum())


def test_the_policy_never_moves_and_the_classifier_begins_as_its_copy():
    objective, batch = build(), rows(SHORT_STAR)
    policy = copy.deepcopy(objective.model.state_dict())
    optimizer = torch.optim.AdamW(objective.parameters())
    moved = []
    for objective.steps in (0, 1):
        loss = objective.loss(batch)
        copied = objective.classifier.model.state_dict()
        moved.append(not all(torch.equal(copied[key], value) for key, value in policy.items()))
        loss.backward()
        optimizer.step()
    assert moved == [False, True]
    torch.testing.assert_close(objective.model.state_dict(), policy, rtol=0, atol=0)
    trained = [name for name, parameter in objective.named_parameters() if parameter.requires_grad]
    assert trained == [f"classifier.model.{name}" for name, _ in objective.model.named_parameters()]


def test_the_true_answer_is_never_read():
    objective, batch = build(), rows(SHORT_STAR)
    losses = []
    for answer in (batch.answer, batch.answer.flip(1)):
        torch.manual_seed(1)
        losses.append(objective.loss(Batch(batch.prompt, answer)))
    assert torch.equal(*losses)


def test_finds_the_goals_arm_of_each_graph_from_a_policy_that_draws_either():
    """Learned by heart, from a next-token model of both arms, as after `init_from`."""
    batch = rows(STAR, 8)
    arms = Batch(batch.prompt.repeat(2, 1), torch.cat([batch.answer, STAR.distract(batch)]))
    model = gpt(width=32, layers=1)
    plateau = math.log(2) / STAR.answer_length + 0.05
    assert learns(NextToken(model, STAR), arms, 300, 1e-2, lambda policy, arms: policy.loss(arms) < plateau)
    assert learns(ValueGuided(model, STAR), batch, 200, 1e-2)
