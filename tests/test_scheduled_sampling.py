"""Scheduled sampling in two passes, against loops in float64."""

import types

import pytest
import torch
from pydantic import ValidationError

from forethought.errors import Impossible
from forethought.models import GPT
from forethought.objectives import NextToken
from forethought.objectives.scheduled_sampling import ScheduledSampling
from forethought.tasks import PathStar

TASK = PathStar(degree=2, path_length=4, num_nodes=8)


def gpt(**changed):
    torch.manual_seed(0)
    values = {"layers": 2, "width": 16, "heads": 2, **changed}
    length = TASK.prompt_length + TASK.answer_length
    model = GPT(vocabulary_size=len(TASK.vocabulary), context_length=length, **values).double()
    for parameter in model.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.7)  # large enough for rows to be answered differently
    return model


def rows(count=3):
    return TASK.sample(count, torch.Generator().manual_seed(2))


def at_step(objective, step):
    objective._trainer = types.SimpleNamespace(global_step=step)
    return objective


def passes(objective, batch):
    """What the model read after the prompt in each pass, and the loss."""
    read = []
    hook = objective.model.register_forward_pre_hook(
        lambda _, arguments: read.append(arguments[0][:, TASK.prompt_length :])
    )
    loss = objective.loss(batch)
    hook.remove()
    return read, loss


def next_logits(model, prompt, read):
    return model.logits(model(torch.tensor([prompt + read]), TASK.prompt_length))[0, -1]


def slow(model, prompts, reads, answers):
    """-log p(true token | prompt, what was read before it), one token at a time."""
    total = []
    for prompt, read, answer in zip(prompts.tolist(), reads.tolist(), answers.tolist(), strict=True):
        for i, token in enumerate(answer):
            logits = next_logits(model, prompt, read[:i])
            total.append((logits.exp().sum().log() - logits[token]).item())
    return sum(total) / len(total)


@pytest.mark.parametrize("mask", ["causal", "prefix"])
def test_loss(mask):
    batch, model = rows(), gpt(mask=mask)
    torch.manual_seed(3)
    (first, second), loss = passes(ScheduledSampling(model, TASK, 0.5), batch)
    assert torch.equal(first, batch.answer[:, :-1])
    own = second != first
    assert own.any()
    assert not own.all()
    assert loss.item() == pytest.approx(slow(model, batch.prompt, second, batch.answer))


def test_own_tokens_are_samples_of_the_first_pass():
    """Input i is drawn from p(y_i | prompt, true tokens before i), not from a neighbour's distribution."""
    batch, model = rows(1), gpt()
    many = batch[torch.zeros(3000, dtype=torch.long)]
    (_, read), _ = passes(ScheduledSampling(model, TASK, 1.0), many)
    for i in range(TASK.answer_length - 1):
        logits = next_logits(model, batch.prompt[0].tolist(), batch.answer[0, :i].tolist())
        share = read[:, i].bincount(minlength=len(logits)) / len(read)
        torch.testing.assert_close(share.double(), logits.softmax(0).detach(), atol=0.035, rtol=0)


def test_each_token_is_swapped_on_its_own():
    many = rows(1)[torch.zeros(3000, dtype=torch.long)]
    (first, second), _ = passes(ScheduledSampling(gpt(), TASK, 0.5), many)
    own = (first != second).double()
    both = own.T @ own / len(own)
    alone = own.mean(0)
    off_diagonal = ~torch.eye(len(alone), dtype=torch.bool)
    assert alone.min() > 0.2
    torch.testing.assert_close(both[off_diagonal], alone.outer(alone)[off_diagonal], atol=0.03, rtol=0)


def test_probability_grows_with_the_steps_of_the_trainer():
    batch = rows(1000)
    objective = ScheduledSampling(gpt(), TASK, 0.8, growth_steps=100)
    assert objective.probability == 0.8
    for step, probability in ((0, 0.0), (25, 0.2), (50, 0.4), (100, 0.8), (1000, 0.8)):
        at_step(objective, step)
        assert objective.probability == pytest.approx(probability)
        logits = objective.answer_logits(batch).log_softmax(2)
        right = logits.exp().gather(2, batch.answer[:, :-1, None])[:, :, 0].mean().item()
        (_, read), _ = passes(objective, batch)
        swapped = (read != batch.answer[:, :-1]).double().mean().item() / (1 - right)
        assert swapped == pytest.approx(probability, abs=0.04)


def test_step_zero_is_next_token_prediction():
    batch = rows()
    assert at_step(ScheduledSampling(gpt(), TASK), 0).loss(batch) == NextToken(gpt(), TASK).loss(batch)


def test_the_last_own_token_is_not_read_and_no_gradient_passes_through_the_first_pass():
    """Gradients equal those of the second pass alone, with its input given."""
    batch, model = rows(), gpt()
    torch.manual_seed(3)
    (_, second), loss = passes(ScheduledSampling(model, TASK, 1.0), batch)
    assert second.shape == (3, TASK.answer_length - 1)
    loss.backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    model.zero_grad()
    logits = model.logits(model(torch.cat([batch.prompt, second], 1))[:, TASK.prompt_length - 1 :])
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.answer.flatten()).backward()
    for gradient, parameter in zip(gradients, model.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad)


def test_all_weights_learn_under_autocast():
    """What the first pass casts and keeps must not cut the second one off from the weights."""
    objective = ScheduledSampling(gpt().float(), TASK)
    with torch.autocast("cpu", torch.bfloat16):
        objective.loss(rows()).backward()
    assert all(parameter.grad.ne(0).any() for parameter in objective.parameters())


@torch.no_grad()
def test_evaluation_generation_and_round_trip():
    model, batch = gpt(), rows()
    objective = ScheduledSampling(model, TASK, 1.0)
    assert torch.equal(objective.answer_logits(batch), NextToken(model, TASK).answer_logits(batch))
    answer = objective.generate(batch.prompt, 4)
    for row, prompt in enumerate(batch.prompt.tolist()):
        own = []
        for _ in range(4):
            own.append(next_logits(model, prompt, own).argmax().item())
        assert answer[row].tolist() == own
    other = ScheduledSampling(gpt(), TASK, 1.0)
    torch.nn.init.normal_(other.model.embedding.weight)
    assert not torch.equal(other.generate(batch.prompt, 4), answer)
    other.load_state_dict(objective.state_dict())
    assert torch.equal(other.generate(batch.prompt, 4), answer)


def test_overfits_one_batch_through_its_own_generation():
    model = gpt(width=32).float()
    model.initialise(model)
    objective = ScheduledSampling(model, TASK, 0.5)
    batch = rows(8)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=3e-3)
    for step in range(1500):
        loss = objective.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 25 == 0 and torch.equal(objective.generate(batch.prompt, 4), batch.answer):
            return
    raise AssertionError(f"not learned by heart; the loss stands at {loss.item()}")


def test_refusals_by_name():
    with pytest.raises(Impossible, match=r"model\.mask=full: ScheduledSampling"):
        ScheduledSampling(gpt(mask="full"), TASK)
    for name, value in (("final_probability", 1.5), ("growth_steps", 0)):
        with pytest.raises(ValidationError, match=name):
            ScheduledSampling(gpt(), TASK, **{name: value})
