"""The loss on the deciding tokens alone, against loops in float64."""

import pytest
import torch

from forethought.errors import Impossible
from forethought.models import GPT
from forethought.objectives.decision_only import DecisionOnly
from forethought.tasks import Addition, Batch, PathStar

STAR = PathStar(degree=2, path_length=4, num_nodes=8)
SUM = Addition(digits=4)


def gpt(task, **changed):
    torch.manual_seed(0)
    values = {"layers": 2, "width": 16, "heads": 2, **changed}
    length = task.prompt_length + task.answer_length
    model = GPT(vocabulary_size=len(task.vocabulary), context_length=length, **values).double()
    for parameter in model.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.7)  # large enough for rows to be answered differently
    return model


def rows(task, count):
    return task.sample(count, torch.Generator().manual_seed(2))


def deciding(task, prompt):
    """Which answer positions decide: the first hop; digits left of a run of pairs that make 9.

    The last pair begins no run.
    """
    if task is STAR:
        return [1]
    nine = [prompt[i] + prompt[i + 5] == 9 for i in range(4)]
    return [i for i in range(3) if nine[i] and not (i > 0 and nine[i - 1])]


def slow(model, task, batch):
    total = []
    for prompt, answer in zip(batch.prompt.tolist(), batch.answer.tolist(), strict=True):
        for i in deciding(task, prompt):
            logits = model.logits(model(torch.tensor([prompt + answer[:i]]), task.prompt_length))[0, -1]
            total.append((logits.exp().sum().log() - logits[answer[i]]).item())
    return sum(total) / len(total)


@pytest.mark.parametrize("mask", ["causal", "prefix"])
@pytest.mark.parametrize("task", [STAR, SUM], ids=["path_star", "addition"])
def test_loss(task, mask):
    """Over the tokens, not over the rows: sums have none, one or several of them."""
    model, batch = gpt(task, mask=mask), rows(task, 12)
    if task is SUM:
        assert {0, 1} <= {len(deciding(SUM, prompt)) for prompt in batch.prompt.tolist()}
    assert DecisionOnly(model, task).loss(batch).item() == pytest.approx(slow(model, task, batch))


def test_no_deciding_token_no_loss_and_no_gradient():
    batch = rows(SUM, 64)
    batch = batch[~SUM.decision_mask(batch).any(1)]
    assert len(batch) > 10
    model = gpt(SUM)
    loss = DecisionOnly(model, SUM).loss(batch)
    loss.backward()
    assert loss.item() == 0
    assert all(parameter.grad.eq(0).all() for parameter in model.parameters())


def test_other_tokens_carry_no_loss():
    """The loss follows the deciding token and what is read before it; its gradient reaches one logit row."""
    model, batch = gpt(STAR), rows(STAR, 2)
    objective = DecisionOnly(model, STAR)
    kept = []

    def logits(hidden, plain=model.logits):
        kept.append(plain(hidden))
        kept[0].retain_grad()
        return kept[0]

    model.logits = logits
    loss = objective.loss(batch)
    loss.backward()
    assert kept[0].grad.ne(0).any(2).tolist() == [[False, True, False, False]] * 2
    del model.logits
    for position in range(STAR.answer_length):
        answer = batch.answer.clone()
        answer[:, position] = (answer[:, position] + 1) % STAR.num_nodes
        same = objective.loss(Batch(batch.prompt, answer)).item() == pytest.approx(loss.item(), abs=1e-12)
        assert same == (position > 1)


@torch.no_grad()
def test_generation_and_round_trip():
    model, batch = gpt(STAR), rows(STAR, 3)
    objective = DecisionOnly(model, STAR)
    answer = objective.generate(batch.prompt, 4)
    for row, prompt in enumerate(batch.prompt.tolist()):
        read = list(prompt)
        for _ in range(4):
            read.append(model.logits(model(torch.tensor([read])))[0, -1].argmax().item())
        assert answer[row].tolist() == read[len(prompt) :]
    other = DecisionOnly(gpt(STAR), STAR)
    torch.nn.init.normal_(other.model.embedding.weight)
    assert not torch.equal(other.generate(batch.prompt, 4), answer)
    other.load_state_dict(objective.state_dict())
    assert torch.equal(other.generate(batch.prompt, 4), answer)


def test_overfits_the_deciding_tokens_of_one_batch():
    """Through generation from the true start, the only prefix that it ever learns to continue."""
    model = gpt(STAR, width=32).float()
    model.initialise(model)
    objective = DecisionOnly(model, STAR)
    batch = rows(STAR, 8)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=3e-3)
    for step in range(1000):
        loss = objective.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 25 == 0:
            answer = objective.generate(batch.prompt, 4, given=batch.answer[:, :1])
            if torch.equal(answer[:, 1], batch.answer[:, 1]):
                return
    raise AssertionError(f"not learned by heart; the loss stands at {loss.item()}")


def test_a_full_mask_is_refused_by_name():
    with pytest.raises(Impossible, match=r"model\.mask=full: DecisionOnly"):
        DecisionOnly(gpt(STAR, mask="full"), STAR)
