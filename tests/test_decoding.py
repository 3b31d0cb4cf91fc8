"""Decodings against all answers to a prompt, each with its exact likelihood."""

import itertools
import math
from collections import Counter

import pytest
import torch
from helpers import gpt, next_logits, untied, with_large_weights

from forethought.errors import Impossible
from forethought.evaluation import GREEDY, Decoding, diagnose, show_examples
from forethought.objectives import AnyOrder, LookaheadInsertion, MaskedDiffusion, NextToken, Teacherless
from forethought.tasks import Draws, Task
from forethought.validation import validated_dataclass


@validated_dataclass
class Letters(Task):
    """Two letters, answered by a few tokens. The right answer begins with the letter a."""

    ends: bool = False
    length: int = 3

    outcomes = ("right", "wrong")
    vocabulary = property(
        lambda self: ("a", "b", "c", "end", "$") if self.ends else ("a", "b", "c", "d", "$")
    )
    end = property(lambda self: 3 if self.ends else None)
    chance = 0.25
    prompt_length = 2
    answer_length = property(lambda self: self.length)

    def sample(self, count, draws):
        letters = draws.integers(3, count, 5)
        return self.pad(letters[:, :2].tolist(), letters[:, 2:].tolist())

    def check(self, prompt, answer):
        return (answer[:, 0] != 0).long()

    def decision_mask(self, batch):
        return torch.ones_like(batch.answer, dtype=torch.bool)

    def text(self, prompt, answer):
        return "".join(self.vocabulary[token] for token in [*prompt, *answer])

    def parse(self, line):
        raise NotImplementedError


PROMPTS = torch.tensor([*itertools.product(range(3), repeat=2)])
SIZE = 4  # tokens that may be written
with_and_without_end = pytest.mark.parametrize("ends", [False, True], ids=["fixed length", "end token"])


def objective(ends, length=3, seed=11):
    """Its distributions are neither flat nor certain, and differ between prompts."""
    task = Letters(ends=ends, length=length)
    return NextToken(untied(with_large_weights(gpt(task, seed=seed, layers=1, width=8), 0.8)), task).eval()


def softmax(logits):
    return logits.softmax(0).tolist()


@torch.no_grad()
def all_answers(objective, prompt, written=(), distribution=softmax):
    """Return the probability of every answer to one prompt that begins with what is written.

    Args:
        distribution: of the next token, from the logits of all tokens but `$`.
    """
    task, answers = objective.task, {}

    def extend(answer, probability):
        if len(answer) == task.answer_length or answer[-1:] == (task.end,):
            answers[answer + (task.dummy,) * (task.answer_length - len(answer))] = probability
            return
        logits = next_logits(objective.model, prompt.tolist(), list(answer))[: task.dummy]
        for token, share in enumerate(distribution(logits)):
            if share:
                extend((*answer, token), probability * share)

    extend(tuple(written), 1.0)
    return answers


def restricted(temperature=1.0, top_k=SIZE, top_p=1.0):
    """Return the distribution of a draw, token by token, from the likeliest down."""

    def distribution(logits):
        shares = softmax(logits / temperature)
        order = sorted(range(SIZE), key=lambda token: -shares[token])[:top_k]
        within_top_k, total, held = sum(shares[token] for token in order), 0.0, []
        for token in order:
            if total < top_p:
                held.append(token)
                total += shares[token] / within_top_k
        mass = sum(shares[token] for token in held)
        return [shares[token] / mass if token in held else 0.0 for token in range(SIZE)]

    return distribution


def write(decoding, objective, prompts=PROMPTS, prefix=None):
    """Return the answers as a list of tuples."""
    length = objective.task.answer_length
    return [*map(tuple, decoding.generate(objective, prompts, length, prefix).tolist())]


def handed(*tokens):
    """The same prefix for every prompt."""
    return torch.tensor([tokens]).expand(len(PROMPTS), -1)


@with_and_without_end
@pytest.mark.parametrize(
    "decoding",
    [Decoding(decoding="beam", beams=SIZE**2), Decoding(decoding="best_of_k", samples=300)],
    ids=["beam", "best_of_k"],
)
@pytest.mark.parametrize("prefix", [(), (1,), (1, 3), (0, 2, 1)], ids=str)
def test_the_likeliest_of_all_answers(decoding, ends, prefix):
    """Among those that begin with the prefix; (1, 3) has come to its end, if there is one."""
    model = objective(ends)
    torch.manual_seed(0)
    found = write(decoding, model, prefix=handed(*prefix) if prefix else None)
    for prompt, answer in zip(PROMPTS, found, strict=True):
        answers = all_answers(model, prompt, prefix)
        assert answer == max(answers, key=answers.get)


@with_and_without_end
def test_greedy_decoding_misses_the_likeliest_answers(ends):
    """Otherwise the test above would compare nothing. Some of them are short, some are not."""
    model, lengths, missed = objective(ends), set(), 0
    for prompt, answer in zip(PROMPTS, write(GREEDY, model), strict=True):
        answers = all_answers(model, prompt)
        best = max(answers, key=answers.get)
        missed += answer != best
        lengths.add(sum(token != model.task.dummy for token in best))
    assert missed
    assert len(lengths) > 1 if ends else lengths == {3}


def slow_beam(objective, prompt, width):
    """One beam after the other, with every continuation in a list."""
    task, beams = objective.task, [(0.0, ())]
    for _ in range(task.answer_length):
        continued = []
        for score, answer in beams:
            if task.end in answer:
                continued.append((score, (*answer, task.dummy)))
                continue
            logits = next_logits(objective.model, prompt.tolist(), list(answer))[: task.dummy]
            continued += [(score + math.log(p), (*answer, token)) for token, p in enumerate(softmax(logits))]
        beams = sorted(continued, reverse=True)[:width]
    return beams[0][1]


@with_and_without_end
@torch.no_grad()
def test_a_narrow_beam(ends):
    """None is 4."""
    model = objective(ends, length=6, seed=20)
    answers = [write(Decoding(decoding="beam", beams=beams), model) for beams in (1, 2, 3, None)]
    assert answers == [[slow_beam(model, prompt, width) for prompt in PROMPTS] for width in (1, 2, 3, 4)]
    different = [a != b for a, b in itertools.pairwise(answers)]
    assert different == [True, True, ends]  # otherwise the widths compare nothing


@with_and_without_end
@pytest.mark.parametrize("prefix", [None, PROMPTS[:, 1:]], ids=["", "prefix"])
@pytest.mark.parametrize(
    "decoding",
    [
        Decoding(decoding="beam", beams=1),
        Decoding(decoding="sample", top_k=1),
        Decoding(decoding="sample", temperature=2.0, top_p=1e-20),
        Decoding(decoding="sample", temperature=1e-6),
        Decoding(decoding="best_of_k", samples=2, top_k=1),
        Decoding(temperature=0.0),
    ],
    ids=str,
)
def test_the_narrowest_decodings_are_greedy(decoding, prefix, ends):
    model = objective(ends)
    expected = model.generate(PROMPTS, 3, prefix=prefix)
    assert torch.equal(decoding.generate(model, PROMPTS, 3, prefix), expected)
    assert len(expected.unique(dim=0)) > 2


DRAWS = 20_000


def agrees(counts, probabilities):
    """Within five standard errors, for each answer; at most five of the rarest; none that is impossible."""
    assert counts.keys() <= probabilities.keys()
    for answer, p in probabilities.items():
        assert abs(counts[answer] / DRAWS - p) <= 5 * math.sqrt(max(p, 1 / DRAWS) * (1 - p) / DRAWS), answer


@with_and_without_end
@pytest.mark.parametrize(
    "options",
    [{}, {"temperature": 0.6}, {"top_k": 2}, {"top_p": 0.7}, {"temperature": 1.7, "top_k": 3, "top_p": 0.8}],
    ids=str,
)
@pytest.mark.parametrize("prefix", [(), (2,)], ids=["", "prefix"])
def test_samples_follow_the_restricted_distribution(options, prefix, ends):
    model, prompt = objective(ends), PROMPTS[5]
    torch.manual_seed(1)
    found = write(
        Decoding(decoding="sample", **options),
        model,
        prompt.expand(DRAWS, -1),
        torch.tensor([prefix]).expand(DRAWS, -1) if prefix else None,
    )
    agrees(Counter(found), all_answers(model, prompt, prefix, restricted(**options)))


@with_and_without_end
def test_best_of_k_is_drawn_softened_and_judged_by_the_likelihood(ends):
    """The best of three is an answer if all three are at most as likely, and not all are less likely."""
    options = {"temperature": 1.5, "top_k": 3}
    model, prompt = objective(ends), PROMPTS[5]
    drawn = all_answers(model, prompt, distribution=restricted(**options))
    likelihood, expected, below = all_answers(model, prompt), {}, 0.0
    for answer in sorted(drawn, key=likelihood.get):
        expected[answer] = (below + drawn[answer]) ** 3 - below**3
        below += drawn[answer]
    torch.manual_seed(2)
    decoding = Decoding(decoding="best_of_k", samples=3, **options)
    agrees(Counter(write(decoding, model, prompt.expand(DRAWS, -1))), expected)


def test_eight_samples_unless_said_otherwise():
    """They use up as many random numbers."""
    model, following = objective(False), {}
    for samples in (7, 8, None):
        torch.manual_seed(3)
        write(Decoding(decoding="best_of_k", samples=samples), model)
        following[samples] = torch.rand(()).item()
    assert following[7] != following[8] == following[None]


def test_equally_likely_answers_leave_the_first_one():
    model = objective(False)
    model.model.logits = lambda hidden: torch.zeros(*hidden.shape[:2], SIZE + 1)
    torch.manual_seed(4)
    first = write(Decoding(decoding="sample"), model)
    torch.manual_seed(4)
    assert write(Decoding(decoding="best_of_k"), model) == first


def test_metrics_and_examples_are_of_the_decoding():
    model = objective(True)
    rows = model.task.sample(200, Draws(0))
    beam = Decoding(decoding="beam", beams=SIZE**2)
    shares = []
    for decoding in (GREEDY, beam):
        answers = decoding.generate(model, rows.prompt, 3)
        shares.append((answers[:, 0] == 0).double().mean().item())
        assert diagnose(model, model.task, rows, decoding)["accuracy"] == pytest.approx(shares[-1])
        shown = [example.answer for example in show_examples(model, model.task, rows[:20], decoding)]
        assert shown == [[model.task.vocabulary[token] for token in answer] for answer in answers[:20]]
    assert shares[0] != shares[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.7}, r"temperature=0\.7: no effect .*decoding=greedy; use sample or best_of_k"),
        ({"top_k": 3}, "top_k=3: no effect .*decoding=greedy; use sample or best_of_k"),
        ({"decoding": "beam", "temperature": 1.0}, r"temperature=1\.0: .*decoding=beam; use sample or best"),
        ({"decoding": "beam", "top_p": 0.5}, r"top_p=0\.5: .*decoding=beam; use sample or best_of_k"),
        ({"decoding": "beam", "samples": 2}, "samples=2: .*decoding=beam; use best_of_k"),
        ({"decoding": "sample", "beams": 2}, "beams=2: .*decoding=sample; use beam"),
        ({"decoding": "sample", "samples": 2}, "samples=2: .*decoding=sample; use best_of_k"),
        ({"decoding": "best_of_k", "beams": 2}, "beams=2: .*decoding=best_of_k; use beam"),
        ({"decoding": "sample", "temperature": 0.0}, r"temperature=0\.0: .*decoding=sample; .*greedy"),
        ({"decoding": "best_of_k", "temperature": 0.0}, r"temperature=0\.0: .*decoding=best_of_k; .*greedy"),
    ],
    ids=str,
)
def test_options_without_effect_are_rejected(options, message):
    with pytest.raises(Impossible, match=rf"evaluation\.{message}"):
        Decoding(**options)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (AnyOrder, {"order": "right_to_left"}),
        (LookaheadInsertion, {"force": 1}),
        (MaskedDiffusion, {}),
        (Teacherless, {}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
@pytest.mark.parametrize(
    ("decoding", "rejected", "instead"),
    [
        ({"decoding": "beam"}, "decoding=beam", "greedy or sample"),
        ({"decoding": "best_of_k", "top_k": 2}, "decoding=best_of_k", "greedy or sample"),
        ({"decoding": "sample", "top_k": 2}, "top_k=2", "null"),
        ({"decoding": "sample", "top_p": 0.5}, r"top_p=0\.5", "null"),
        ({"decoding": "sample"}, None, None),
        ({}, None, None),
    ],
    ids=str,
)
def test_objectives_that_do_not_write_from_left_to_right(kind, options, decoding, rejected, instead):
    model = kind(gpt(Letters(), extra=3), Letters(), **options)
    if rejected is None:
        assert len(write(Decoding(**decoding), model)) == len(PROMPTS)
    else:
        with pytest.raises(Impossible, match=rf"evaluation\.{rejected}: .*{kind.__name__}.*use {instead}"):
            write(Decoding(**decoding), model)
