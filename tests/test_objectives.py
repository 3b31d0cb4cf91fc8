"""Each objective against its formula written out in loops, in float64."""

import pytest
import torch

from forethought.errors import Impossible
from forethought.models import GPT
from forethought.objectives import NextToken, Teacherless
from forethought.objectives.base import choose
from forethought.tasks import PathStar

TASK = PathStar(degree=2, path_length=4, num_nodes=8)


def gpt(**changed):
    torch.manual_seed(0)
    values = {"layers": 2, "width": 16, "heads": 2, **changed}
    length = TASK.prompt_length + TASK.answer_length
    model = GPT(vocabulary_size=len(TASK.vocabulary), context_length=length, **values).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def rows(count=3):
    return TASK.sample(count, torch.Generator().manual_seed(2))


def log_likelihood(model, read, target):
    """log p(target | read), from the logits of the last token read."""
    logits = model.logits(model(torch.tensor([read]), TASK.prompt_length))[0, -1]
    return (logits[target] - logits.exp().sum().log()).item()


def slow_next_token(model, batch):
    total = []
    for prompt, answer in zip(batch.prompt.tolist(), batch.answer.tolist(), strict=True):
        for i, token in enumerate(answer):
            total.append(-log_likelihood(model, prompt + answer[:i], token))
    return sum(total) / len(total)


def slow_teacherless(model, batch):
    total = []
    for prompt, answer in zip(batch.prompt.tolist(), batch.answer.tolist(), strict=True):
        for i, token in enumerate(answer):
            total.append(-log_likelihood(model, prompt + [TASK.dummy] * i, token))
    return sum(total) / len(total)


@pytest.mark.parametrize("mask", ["causal", "prefix"])
def test_next_token_loss(mask):
    model = gpt(mask=mask)
    assert NextToken(model, TASK).loss(rows()).item() == pytest.approx(slow_next_token(model, rows()))


@pytest.mark.parametrize("mask", ["causal", "prefix"])
@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_teacherless_loss(mask, weight):
    model = gpt(mask=mask)
    expected = (1 - weight) * slow_teacherless(model, rows()) + weight * slow_next_token(model, rows())
    objective = Teacherless(model, TASK, next_token_weight=weight)
    assert objective.loss(rows()).item() == pytest.approx(expected)


def test_teacherless_under_a_full_mask_reads_no_answer():
    objective = Teacherless(gpt(mask="full"), TASK)
    batch = rows()
    logits = objective.answer_logits(batch)
    other = type(batch)(batch.prompt, batch.answer.flip(1))
    assert torch.equal(objective.answer_logits(other), logits)


@pytest.mark.parametrize("objective_type", [NextToken, Teacherless])
def test_prompt_tokens_carry_no_loss(objective_type):
    """The loss reads the output of the last prompt token and of the answer inputs, and of no others."""
    model = gpt()
    seen = []
    model.logits = lambda hidden, plain=model.logits: (seen.append(hidden.shape[1]), plain(hidden))[1]
    objective_type(model, TASK).loss(rows())
    assert seen == [TASK.answer_length]


def test_teacher_forced_logits_read_the_true_prefix_alone():
    """Logits of answer token i change with tokens before i and with no others."""
    objective = NextToken(gpt(), TASK)
    batch = rows(1)
    logits = objective.answer_logits(batch)
    for i in range(TASK.answer_length):
        answer = batch.answer.clone()
        answer[0, i] = (answer[0, i] + 1) % TASK.num_nodes
        changed = (objective.answer_logits(type(batch)(batch.prompt, answer)) - logits).abs().amax(2)[0]
        assert (changed > 0).tolist() == [j > i for j in range(TASK.answer_length)]


@pytest.mark.parametrize("mask", ["causal", "prefix"])
@torch.no_grad()
def test_generation_token_by_token(mask):
    """Greedy decoding with the cache against reading everything anew for each token."""
    model = gpt(mask=mask)
    batch = rows()
    for given in (None, batch.answer[:, :2]):
        fast = NextToken(model, TASK).generate(batch.prompt, 4, given=given)
        for row, prompt in enumerate(batch.prompt.tolist()):
            answer = [] if given is None else given[row].tolist()
            while len(answer) < 4:
                read = torch.tensor([prompt + answer])
                answer.append(model.logits(model(read, TASK.prompt_length))[0, -1].argmax().item())
            assert fast[row].tolist() == answer


@torch.no_grad()
def test_generation_in_one_pass():
    model = gpt()
    batch = rows()
    answer = Teacherless(model, TASK).generate(batch.prompt, 4)
    for i in range(4):
        read = torch.cat([batch.prompt, torch.full((3, i), TASK.dummy)], 1)
        assert torch.equal(answer[:, i], model.logits(model(read))[:, -1].argmax(1))


def test_sampling_follows_the_softened_distribution():
    torch.manual_seed(0)
    logits = torch.tensor([0.0, 1.0, 2.0]).expand(30_000, 1, 3)
    for temperature in (0.5, 1.0, 2.0):
        drawn = choose(logits, temperature)
        assert drawn.shape == (30_000, 1)
        share = drawn.flatten().bincount(minlength=3) / 30_000
        torch.testing.assert_close(share, (logits[0, 0] / temperature).softmax(0), atol=0.01, rtol=0)
    assert (choose(logits, 0.0) == 2).all()


def test_masks_without_a_meaning_are_refused_by_name():
    with pytest.raises(Impossible, match=r"model\.mask=full: NextToken"):
        NextToken(gpt(mask="full"), TASK)
    with pytest.raises(Impossible, match="next_token_weight"):
        Teacherless(gpt(mask="full"), TASK, next_token_weight=0.5)


@pytest.mark.parametrize(
    ("objective_type", "options"),
    [(NextToken, {}), (Teacherless, {}), (Teacherless, {"next_token_weight": 0.5})],
)
def test_overfits_one_batch_through_its_own_generation(objective_type, options):
    model = gpt(width=32).float()
    model.initialise(model)
    objective = objective_type(model, TASK, **options)
    batch = rows(16)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=3e-3)
    for step in range(2000):
        loss = objective.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0 and torch.equal(objective.generate(batch.prompt, 4), batch.answer):
            return
    raise AssertionError(f"not learned by heart; the loss stands at {loss.item()}")
