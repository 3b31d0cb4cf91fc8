"""Rows of any length: padding changes no loss, no logits and no answer."""

import math
from dataclasses import field

import pytest
import torch
import torch.nn.functional as F
from helpers import choices, chosen, gpt_with_large_weights, with_random_weights

from forethought.evaluation import diagnose
from forethought.models import GPT, LSTM, LoopedGPT, Mamba, Mamba2
from forethought.tasks import Batch, Draws, Task
from forethought.validation import validated_dataclass

LETTERS = 7


@validated_dataclass
class Ragged(Task):
    """Random letters, answered by other letters and an end token. Only its shape matters."""

    prompt: int = 6
    answer: int = 5
    shortest: int = field(default=2)

    outcomes = ("right", "wrong")
    vocabulary = (*"abcdefg", "=", "end", "$")
    end = LETTERS + 1
    padded_prompts = True
    chance = 0.0
    prompt_length = property(lambda self: self.prompt)
    answer_length = property(lambda self: self.answer)

    def sample(self, count, draws):
        lengths = draws.integers(self.answer - self.shortest + 1, count, 2) + self.shortest
        letters = draws.integers(LETTERS, count, 2, max(self.prompt, self.answer)).tolist()
        rows = [
            ([*prompt[: self.prompt - self.answer + p - 1], LETTERS], [*answer[: a - 1], self.end])
            for (p, a), (prompt, answer) in zip(lengths.tolist(), letters, strict=True)
        ]
        return self.pad(*zip(*rows, strict=True))

    def check(self, prompt, answer):
        return torch.ones_like(answer[:, 0])

    def decision_mask(self, batch):
        return (batch.answer != self.dummy) & (torch.arange(self.answer) == 0)

    def text(self, prompt, answer):
        raise NotImplementedError

    parse = text


TASK = Ragged()


def rows(count=6):
    return TASK.sample(count, Draws(3))


def alone(batch, row):
    """One row without its padding, and the task of its size."""
    prompt, answer = batch.prompt[row], batch.answer[row]
    prompt, answer = prompt[prompt != TASK.dummy], answer[answer != TASK.dummy]
    task = Ragged(prompt=len(prompt), answer=len(answer))
    return Batch(prompt[None], answer[None]), task


# Options under which a loss draws the same numbers whatever the width of the answers.
OPTIONS = {
    "best_of_k": {"samples": 2, "temperature": 1e-6},
    "latent_lookahead": {"slots": 2},
    "lookahead_insertion": {"probability": 1.0},
    "masked_next_token": {"rate": 1.0},
    "multi_token": {"horizon": 5},  # longer than some prompts
    "n_token_reasoner": {"horizon": 2, "samples": None},
    "policy_gradient": {"samples": 2, "temperature": 1e-6},
    "register_tokens": {"max_offset": 2},
    "reverse_augmented": {"probability": 1.0},
    "scheduled_sampling": {"final_probability": 0.0},
    "joint_multi_token": {"horizon": 2},
    "next_latent": {"horizon": 2},
    "next_token_injection": {"horizon": 2},
    "hierarchical_latent": {"horizon": 2, "window": 3},
    "sequential_multi_token": {"horizon": 2},
}
FULL_WIDTH = (
    "any_order",
    "best_of_k",
    "block_diffusion",
    "masked_diffusion",
    "n_token_reasoner",
    "policy_gradient",
    "preference",
    "value_guided",
    "insertion",
)
"""These write end tokens, or their own answers, up to the full width, or draw a place in it."""

MODELS = {
    "learned": (GPT, {"heads": 2}),
    "rotary": (GPT, {"heads": 2, "positions": "rotary", "conv": "blocks"}),
    "looped": (LoopedGPT, {"heads": 2, "conv": "input"}),
    "lstm": (LSTM, {}),
    "mamba": (Mamba, {"state_size": 3, "conv": "input"}),
    "mamba2": (Mamba2, {"state_size": 3, "head_width": 8, "chunk": 4}),
}


def build(objective, model="learned", mask="causal", **options):
    torch.manual_seed(0)
    kind, sizes = MODELS[model]
    net = kind.for_task(TASK, 6, layers=2, width=16, mask=mask, **sizes)
    target, defaults = chosen("objective", objective)
    built = target(net, TASK, **defaults | OPTIONS.get(objective, {}) | options)
    return with_random_weights(built)


def loss_of(objective, task, batch):
    objective.task = task
    torch.manual_seed(1)
    return objective.loss(batch)


every_objective = pytest.mark.parametrize("name", [o for o in choices("objective") if o != "decision_only"])
with_masks = pytest.mark.parametrize(
    ("name", "mask", "model"),
    [
        (name, mask, model)
        for name in choices("objective")
        for mask, model in (("causal", "learned"), ("prefix", "rotary"))
        if name != "decision_only" and mask in chosen("objective", name)[0].masks
    ],
)


@with_masks
def test_the_loss_of_a_padded_row_is_that_of_the_row(name, mask, model):
    objective, batch = build(name, model, mask), rows(12)
    shortest = TASK.answer if name in FULL_WIDTH else 3
    compared = 0
    for row in range(len(batch)):
        bare, task = alone(batch, row)
        if bare.answer.shape[1] >= shortest:
            padded = loss_of(objective, TASK, batch[row : row + 1])
            torch.testing.assert_close(padded, loss_of(objective, task, bare))
            compared += bare.prompt.shape[1] < TASK.prompt
    assert compared >= 3


@pytest.mark.parametrize("name", ["any_order", "block_diffusion", "masked_diffusion"])
def test_what_is_written_in_no_fixed_order_ends_in_end_tokens(name):
    """The length of an answer cannot be read off its padding."""
    objective, batch = build(name), rows()
    filled = Batch(batch.prompt, batch.answer.where(batch.answer != TASK.dummy, TASK.end))
    assert not torch.equal(filled.answer, batch.answer)
    torch.testing.assert_close(loss_of(objective, TASK, batch), loss_of(objective, TASK, filled))


@pytest.mark.parametrize(
    "name", ["next_token", "teacherless", "token_order", "future_summary", "multi_token", "bag_window"]
)
def test_the_loss_of_a_batch_is_the_mean_over_its_written_tokens(name):
    objective, batch = build(name), rows()
    counts = (batch.answer != TASK.dummy).sum(1)
    each = torch.stack([loss_of(objective, *reversed(alone(batch, row))) for row in range(len(batch))])
    torch.testing.assert_close(loss_of(objective, TASK, batch), (each * counts).sum() / counts.sum())


@with_masks
@torch.no_grad()
def test_answers_are_those_of_the_rows_alone(name, mask, model):
    objective, batch = build(name, model, mask), rows()
    for speculate in (False, True) if name == "multi_token" else (False,):
        objective.speculate = speculate
        answers = objective.generate(batch.prompt, TASK.answer)
        assert (answers.diff(dim=1)[answers[:, :-1] == TASK.end] >= 0).all()
        for row in range(len(batch)):
            bare, _ = alone(batch, row)
            objective.task = Ragged(prompt=bare.prompt.shape[1], answer=TASK.answer)
            assert torch.equal(objective.generate(bare.prompt, TASK.answer)[0], answers[row])
        objective.task = TASK


@pytest.mark.parametrize("model", MODELS)
@torch.no_grad()
def test_every_model_skips_padding(model):
    """In one pass and with a cache."""
    objective, batch = build("next_token", model), rows()
    logits, answers = objective.answer_logits(batch), objective.generate(batch.prompt, TASK.answer)
    for row in range(len(batch)):
        bare, _ = alone(batch, row)
        length = bare.answer.shape[1]
        torch.testing.assert_close(objective.answer_logits(bare)[0], logits[row, :length])
        assert torch.equal(objective.generate(bare.prompt, TASK.answer)[0], answers[row])


@every_objective
@torch.no_grad()
def test_metrics_count_written_tokens_alone(name):
    """Against the rows one by one, each without its padding."""
    objective, batch = build(name), rows(40)
    metrics = diagnose(objective, TASK, batch)
    assert all(map(math.isfinite, metrics.values()))
    hits, losses, answers = (
        [[] for _ in range(TASK.answer)],
        [],
        objective.generate(batch.prompt, TASK.answer),
    )
    for row in range(len(batch)):
        bare, _ = alone(batch, row)
        for place, token in enumerate(bare.answer[0]):
            hits[place].append(answers[row, place] == token)
        if name == "next_token":
            logits = objective.answer_logits(bare)[0, :, : TASK.dummy]
            losses += F.cross_entropy(logits, bare.answer[0], reduction="none").tolist()
    for place, of_place in enumerate(hits, 1):
        assert metrics[f"token_accuracy_{place}"] == pytest.approx(sum(of_place).item() / len(of_place))
    if losses:
        assert metrics["forced_loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def test_trim_and_fill():
    end, dummy = TASK.end, TASK.dummy
    answer = torch.tensor([[1, end, 2, end, 3], [1, 2, 3, 4, 5]])
    assert TASK.trim(answer).tolist() == [[1, end, dummy, dummy, dummy], [1, 2, 3, 4, 5]]
    assert TASK.fill(TASK.trim(answer)).tolist() == [[1, end, end, end, end], [1, 2, 3, 4, 5]]


@torch.no_grad()
def test_padding_is_never_written():
    model = gpt_with_large_weights(TASK)
    model.embedding.weight[TASK.dummy] = 50 * model.norm.bias.sign()  # the likeliest token by far
    target, options = chosen("objective", "next_token")
    answers = target(model, TASK, **options).decode(rows().prompt, TASK.answer, temperature=1.0)
    assert (answers != TASK.dummy).all()
