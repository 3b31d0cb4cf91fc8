"""TRELAWNEY against loops in float64: insertions, loss and decoding."""

import pytest
import torch
from helpers import LONG_STAR as STAR
from helpers import SUM, carries_loss, gpt, rows, untied, with_large_weights

from forethought.objectives.lookahead_insertion import LookaheadInsertion

A = STAR.answer_length


def lookahead(task=STAR, mask="causal", positions="learned", **options):
    extra = LookaheadInsertion.extra_positions(task, **options)
    model = gpt(task, extra, mask=mask, positions=positions)
    objective = with_large_weights(LookaheadInsertion(model, task, **options), std=1.0)
    untied(model)
    return objective


def log_probabilities(objective, task, read):
    """Of every token and </T> after `read`, a list of token ids, '<T>' and '</T>'."""
    model = objective.model
    special = {"</T>": objective.added.weight[0], "<T>": objective.added.weight[1]}
    inputs = [special[token] if token in special else model.embedding.weight[token] for token in read]
    hidden = model(torch.stack(inputs)[None], task.prompt_length)[0, -1]
    logits = [*model.logits(hidden), hidden @ special["</T>"]]
    return torch.stack(logits).log_softmax(0)


@pytest.mark.parametrize(
    ("task", "mask", "positions"),
    [(STAR, "causal", "learned"), (STAR, "prefix", "learned"), (SUM, "causal", "rotary")],
    ids=["causal", "prefix", "rotary"],
)
@pytest.mark.parametrize(("span", "probability"), [(1, 0.5), (2, 0.5), (4, 1.0), (2, 0.0)])
def test_loss(task, mask, positions, span, probability):
    objective = lookahead(task, mask=mask, positions=positions, span=span, probability=probability)
    batch = rows(task, 6)
    torch.manual_seed(4)
    fits = task.answer_length - span + 1
    cuts = (torch.rand(6, 1) * fits).long().flatten().tolist()
    starts = torch.rand(6, 1).flatten().tolist()
    inserts = (torch.rand(6, 1).flatten() < probability).tolist()
    total = []
    for row, (prompt, answer) in enumerate(zip(batch.prompt.tolist(), batch.answer.tolist(), strict=True)):
        d = cuts[row]
        s = d + int(starts[row] * (fits - d))
        if inserts[row]:
            answer = [*answer[:d], "<T>", *answer[s : s + span], "</T>", *answer[d:]]
        for i, token in enumerate(answer):
            if token != "<T>":
                column = len(task.vocabulary) if token == "</T>" else token
                total.append(-log_probabilities(objective, task, prompt + answer[:i])[column].item())
    assert probability != 0.5 or 0 < sum(inserts) < 6
    torch.manual_seed(4)
    assert objective.loss(batch).item() == pytest.approx(sum(total) / len(total))


def test_insertions_are_uniform_over_all_that_fit():
    torch.manual_seed(0)
    objective = lookahead(span=2, probability=0.25)
    answer = torch.arange(A).expand(40_000, A)
    read, target = objective.insert(answer)
    inserted = (target != STAR.dummy).sum(1) > A
    assert inserted.double().mean().item() == pytest.approx(0.25, abs=0.01)
    assert (target[~inserted, :A] == answer[~inserted]).all()
    seen = {}
    for row in read[inserted].tolist():
        d = row.index(objective.begin)
        first, second = row[d + 1 : d + 3]
        assert row[d + 3] == objective.end
        assert second == first + 1
        assert row[:d] + row[d + 4 :] == list(range(A))
        seen[d, first] = seen.get((d, first), 0) + 1
    assert seen.keys() == {(d, s) for d in range(4) for s in range(d, 4)}
    for (d, _), times in seen.items():
        assert times / len(read[inserted]) == pytest.approx(1 / 4 / (4 - d), abs=0.02)


def test_tokens_that_carry_no_loss():
    """The prompt, <T>, and what pads a row without an insertion; and no such row reads a new token."""
    objective, batch = lookahead(probability=0.0, span=2), rows(STAR, 6)
    carrying = carries_loss(objective, batch).any(0)
    before = STAR.prompt_length - 1
    assert carrying.tolist() == [False] * before + [True] * A + [False] * 4
    assert objective.added.weight.grad[1].abs().max() == 0

    objective.probability = 1.0
    objective.model.zero_grad()
    carrying = carries_loss(objective, batch)
    assert (carrying[:, before:].sum(1) == A + 3).all()
    assert objective.added.weight.grad[1].abs().max() > 0


def slow_generate(objective, prompt, prefix):
    answer, read = [], prompt

    def likeliest():
        return log_probabilities(objective, STAR, read)[: STAR.dummy].argmax().item()

    for i in range(A):
        if i == objective.force:
            read = [*read, "<T>"]
            for _ in range(objective.span):
                read = [*read, likeliest()]
            read = [*read, "</T>"]
        answer.append(prefix[i] if i < len(prefix) else likeliest())
        read = [*read, answer[-1]]
    return answer


@pytest.mark.parametrize("mask", ["causal", "prefix"])
@pytest.mark.parametrize("force", [None, 0, 1, 3])
@torch.no_grad()
def test_generation(force, mask):
    """With the cache, against reading everything anew for each token."""
    objective, batch = lookahead(force=force, span=2, mask=mask), rows(STAR, 6)
    for prefix in (None, batch.answer[:, :2], batch.answer):
        answer = objective.generate(batch.prompt, A, prefix=prefix)
        assert torch.equal(objective.generate(batch.prompt, A, prefix=prefix), answer)
        for row, prompt in enumerate(batch.prompt.tolist()):
            first = [] if prefix is None else prefix[row].tolist()
            assert answer[row].tolist() == slow_generate(objective, prompt, first)


@torch.no_grad()
def test_decoding_writes_no_new_token():
    """Not even one that is likelier than all others."""
    objective = lookahead(force=1, span=2)
    objective.added.weight.mul_(1000)
    assert (objective.generate(rows(STAR, 32).prompt, A) < objective.end).all()


@torch.no_grad()
def test_looking_ahead_is_read():
    batch = rows(STAR, 32)
    plain, forced = (lookahead(force=force).generate(batch.prompt, A) for force in (None, 1))
    assert not torch.equal(plain, forced)


def test_the_longest_sequence_fits_the_learned_positions():
    for span in (1, A):
        objective = lookahead(span=span, force=0, probability=1.0)
        needed = STAR.prompt_length + A + span + 1
        assert objective.model.position.num_embeddings >= needed
        objective.loss(rows(STAR, 6))
        objective.generate(rows(STAR, 6).prompt, A)


def test_initialisation():
    objective = LookaheadInsertion(gpt(STAR, 3, width=32), STAR)
    assert objective.added.weight.std().item() == pytest.approx(0.02, rel=0.4)
