"""Scheduled sampling in two passes, against loops in float64."""

import pytest
import torch
from helpers import STAR, gpt_with_large_weights, next_logits, rows, slow_next_token

from forethought.objectives.scheduled_sampling import ScheduledSampling


def at_step(objective, step):
    objective.steps = step
    return objective


def passes(objective, batch):
    """Return what the model read after the prompt in each pass, and the loss."""
    read = []
    hook = objective.model.register_forward_pre_hook(
        lambda _, arguments: read.append(arguments[0][:, STAR.prompt_length :])
    )
    loss = objective.loss(batch)
    hook.remove()
    return read, loss


@pytest.mark.parametrize("mask", ["causal", "prefix"])
def test_loss(mask):
    batch, model = rows(), gpt_with_large_weights(mask=mask)
    torch.manual_seed(3)
    (first, second), loss = passes(ScheduledSampling(model, STAR, 0.5), batch)
    assert torch.equal(first, batch.answer[:, :-1])
    own = second != first
    assert own.any()
    assert not own.all()
    assert loss.item() == pytest.approx(slow_next_token(model, batch.prompt, second, batch.answer))


def test_own_tokens_are_samples_of_the_first_pass():
    """Input i is drawn from p(y_i | prompt, true tokens before i), not from a neighbour's distribution."""
    batch, model = rows(count=1), gpt_with_large_weights()
    many = batch[torch.zeros(3000, dtype=torch.long)]
    (_, read), _ = passes(ScheduledSampling(model, STAR, 1.0), many)
    for i in range(STAR.answer_length - 1):
        logits = next_logits(model, batch.prompt[0].tolist(), batch.answer[0, :i].tolist())[:-1]
        share = read[:, i].bincount(minlength=len(logits)) / len(read)
        torch.testing.assert_close(share.double(), logits.softmax(0).detach(), atol=0.035, rtol=0)


def test_each_token_is_swapped_on_its_own():
    many = rows(count=1)[torch.zeros(3000, dtype=torch.long)]
    (first, second), _ = passes(ScheduledSampling(gpt_with_large_weights(), STAR, 0.5), many)
    own = (first != second).double()
    both = own.T @ own / len(own)
    alone = own.mean(0)
    off_diagonal = ~torch.eye(len(alone), dtype=torch.bool)
    assert alone.min() > 0.2
    torch.testing.assert_close(both[off_diagonal], alone.outer(alone)[off_diagonal], atol=0.03, rtol=0)


def test_probability_grows_with_the_steps_of_the_trainer():
    batch = rows(count=1000)
    objective = ScheduledSampling(gpt_with_large_weights(), STAR, 0.8, growth_steps=100)
    assert objective.probability == 0.8
    for step, probability in ((0, 0.0), (25, 0.2), (1000, 0.8)):
        at_step(objective, step)
        assert objective.probability == pytest.approx(probability)
        logits = objective.answer_logits(batch).log_softmax(2)
        right = logits.exp().gather(2, batch.answer[:, :-1, None])[:, :, 0].mean().item()
        (_, read), _ = passes(objective, batch)
        swapped = (read != batch.answer[:, :-1]).double().mean().item() / (1 - right)
        assert swapped == pytest.approx(probability, abs=0.04)


def test_the_last_own_token_is_not_read_and_no_gradient_passes_through_the_first_pass():
    """Gradients equal those of the second pass alone, with its input given."""
    batch, model = rows(), gpt_with_large_weights()
    torch.manual_seed(3)
    (_, second), loss = passes(ScheduledSampling(model, STAR, 1.0), batch)
    assert second.shape == (3, STAR.answer_length - 1)
    loss.backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    model.zero_grad()
    logits = model.logits(model(torch.cat([batch.prompt, second], 1))[:, STAR.prompt_length - 1 :])
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.answer.flatten()).backward()
    for gradient, parameter in zip(gradients, model.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad)
