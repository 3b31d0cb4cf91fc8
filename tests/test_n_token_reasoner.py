"""The n-token reasoner against its formula over all pieces, in loops, in float64."""

import itertools
import math

import pytest
import torch
from helpers import STAR, random_gpt, rows

from forethought.objectives import NextToken, NTokenReasoner
from forethought.tasks import Batch, Draws, InWeightsPathStar, PathStar

JUDGES = ("exact", "data_likelihood", "model_likelihood")
MIXED = PathStar(degree=2, path_length=3, min_path_length=2)  # 5 nodes; answers end after 2 or 3 of them


class Noisy(PathStar):
    """A task that knows its distribution: half on the token before, the rest on all but token 0."""

    def next_probabilities(self, batch):
        size = len(self.vocabulary)
        before = torch.cat([batch.prompt[:, -1:], batch.answer[:, :-1]], 1)
        even = torch.full((*before.shape, size), 0.5 / (size - 2))
        even[..., 0] = even[..., -1] = 0
        return even.scatter_add(2, before[..., None], torch.full((*before.shape, 1), 0.5))


NOISY = Noisy(degree=2, path_length=3, num_nodes=5)


def places(batch, start):
    return torch.full((len(batch), 1), start)


def slow_data_probability(task, prompt, answer, place, true):
    """The data's probability of answer token `place` after the tokens before it."""
    if isinstance(task, Noisy):
        before = [*prompt, *answer[:place]][-1]
        even = 0.5 / (len(task.vocabulary) - 2) * (answer[place] != 0)
        return even + 0.5 * (answer[place] == before)
    return float(answer[: place + 1] == true[: place + 1])


def slow_loss(model, task, batch, start, n, judge, weight):
    """-1/n Σ_z π(z) (R(z) - β log π(z)), averaged over the rows, each piece in full."""
    total, plain = 0.0, NextToken(model, task)
    for prompt, true in zip(batch.prompt.tolist(), batch.answer.tolist(), strict=True):
        for piece in itertools.product(range(task.dummy), repeat=n):
            answer = true[:start]
            ended = task.end in answer
            log_pi, log_data, counts = torch.zeros(()).double(), 0.0, True
            for token in piece:
                counts = counts and (not ended or token == 0)  # one piece stands for all after an end
                if ended:
                    answer.append(task.dummy)
                    log_data += math.log(max(float(answer == true[: len(answer)]), 1e-4))
                    continue
                answer.append(token)
                read = Batch(torch.tensor([prompt]), torch.tensor([answer]))
                log_pi = log_pi + plain.answer_logits(read)[0, -1, :-1].log_softmax(0)[token]
                p = slow_data_probability(task, prompt, answer, len(answer) - 1, true)
                log_data += math.log(max(p, 1e-4))
                ended = token == task.end
            if counts:
                reward = {
                    "exact": float(answer == true[: start + n]),
                    "data_likelihood": log_data,
                    "model_likelihood": log_pi.detach(),
                }[judge]
                total = total - log_pi.exp() * (reward - weight * log_pi) / n / len(batch)
    return total


@pytest.mark.parametrize("judge", JUDGES)
@pytest.mark.parametrize(
    ("task", "start", "n", "weight"),
    [(STAR, 0, 2, 0.0), (STAR, 2, 1, 0.7), (MIXED, 1, 2, 0.7), (NOISY, 1, 2, 0.7)],
)
def test_loss_over_all_pieces(task, judge, start, n, weight):
    model, batch = random_gpt(task, layers=1), rows(task, 2)
    objective = NTokenReasoner(model, task, n, judge, samples=None, entropy_weight=weight)
    loss = objective.piece_loss(batch, places(batch, start))
    expected = slow_loss(model, task, batch, start, n, judge, weight)
    torch.testing.assert_close(loss, expected)
    compared = (torch.autograd.grad(value, [*model.parameters()]) for value in (loss, expected))
    torch.testing.assert_close(*compared)


@pytest.mark.parametrize(("task", "judge"), [(MIXED, "exact"), (NOISY, "data_likelihood")])
@pytest.mark.slow
def test_gradient_of_sampled_pieces_is_that_of_all_pieces(task, judge):
    model, batch = random_gpt(task, 0.2, layers=1), rows(task, 2)
    gradients = []
    for samples in (None, 20_000):
        torch.manual_seed(0)
        objective = NTokenReasoner(model, task, 2, judge, samples, entropy_weight=0.5)
        gradient = torch.autograd.grad(objective.piece_loss(batch, places(batch, 1)), [*model.parameters()])
        gradients.append(torch.cat([part.flatten() for part in gradient]))
    expected, found = gradients
    assert (found - expected).norm() < 0.1 * expected.norm()


def test_the_loss_is_zero_exactly_for_a_model_that_samples_as_the_data_do():
    """At β = 1 under `data_likelihood`, the loss is a KL divergence."""

    class Truth(NTokenReasoner):
        def answer_logits(self, batch):
            return self.task.next_probabilities(batch)[:, : batch.answer.shape[1]].log().clamp(min=-1e4)

    class Other(Truth):
        def answer_logits(self, batch):
            return super().answer_logits(batch) * 0.5

    batch, model = rows(NOISY, 4), random_gpt(NOISY)
    options = {"horizon": 2, "judge": "data_likelihood", "samples": None, "entropy_weight": 1.0}
    assert Truth(model, NOISY, **options).piece_loss(batch, places(batch, 1)).item() == pytest.approx(
        0, abs=1e-6
    )
    assert Other(model, NOISY, **options).piece_loss(batch, places(batch, 1)).item() > 0.01


@pytest.mark.parametrize("edges", ["backward", "both"])
def test_own_tokens_are_not_judged_by_targets_made_from_them(edges):
    """`targets` of this task hold the answer that they are given. Only the true answer is likely."""
    task = InWeightsPathStar(degree=16, path_length=4, edges=edges, edge_share=0.0)
    batch, columns = rows(task, 2), torch.tensor([[0, 1]]).expand(2, 2)
    true = batch.answer[:, None, :2]
    pieces = torch.cat([true, (true + 1) % 16, torch.stack([true[..., 0], true[..., 0]], 2)], 1)
    objective = NTokenReasoner(random_gpt(task, layers=1), task, 2, "data_likelihood")
    found = objective.rewards(batch, columns, pieces, torch.zeros(2, 3))
    unseen = math.log(1e-4)
    torch.testing.assert_close(found, torch.tensor([[0.0, 2 * unseen, unseen]] * 2))


def test_a_piece_is_placed_wherever_it_fits():
    """Of 2 or 3 nodes and an end token, pieces of two begin at 0 … 1 or 0 … 2."""
    objective, batch = NTokenReasoner(random_gpt(MIXED), MIXED, horizon=2), rows(MIXED, 400)
    drawn = []
    objective.piece_loss = lambda batch, place: (drawn.append(place[:, 0]), torch.zeros(()))[1]
    objective.loss(batch)
    written = (batch.answer != MIXED.dummy).sum(1)
    for length in (3, 4):
        counts = drawn[0][written == length].bincount()
        assert len(counts) == length - 1
        assert counts.min() > 0.5 * counts.max()


def test_sampled_pieces_follow_the_true_prefix():
    """Each row at a place of its own."""
    objective = NTokenReasoner(random_gpt(std=0.7), STAR, horizon=2)
    batch, columns = rows(STAR, 3), torch.tensor([[0, 1], [1, 2], [2, 3]])
    pieces, log_p = objective.sampled_pieces(batch, columns)
    plain = NextToken(objective.model, STAR)
    for row, k in itertools.product(range(3), range(8)):
        answer = torch.cat([batch.answer[row, :row], pieces[row, k]])[None]
        logits = plain.answer_logits(Batch(batch.prompt[row : row + 1], answer))[0, row:, : STAR.dummy]
        expected = logits.log_softmax(1).gather(1, pieces[row, k][:, None])[:, 0]
        torch.testing.assert_close(log_p[row, k], expected)
    assert len(pieces.flatten(0, 1).unique(dim=0)) > 5


def test_model_likelihood_sharpens_and_the_entropy_weight_holds_it_open():
    """200 steps on one task: the entropy of the pieces falls without the weight, and not with it."""

    def entropy_after(weight):
        task = PathStar(degree=2, path_length=2, num_nodes=3)
        model = random_gpt(task, 0.2, layers=1)
        objective = NTokenReasoner(model, task, 2, "model_likelihood", None, weight)
        optimizer = torch.optim.Adam(model.parameters(), 3e-3)
        batch = task.sample(8, Draws(0))
        for _ in range(200):
            optimizer.zero_grad()
            objective.loss(batch).backward()
            optimizer.step()
        _, log_p = objective.all_pieces(batch, torch.tensor([[0, 1]]).expand(8, 2))
        likelihood = log_p.sum(2)
        return -(likelihood.exp() * likelihood).sum(1).mean().item()

    assert entropy_after(0.0) < 0.2 < 2 < entropy_after(2.0)
