"""Semformer's plan tokens against the formulas written out in loops, in float64."""

import math

import pytest
import torch
from helpers import STAR, gpt, logits_seen, negative_log, rows, slow_norm, with_random_weights

from forethought.objectives.plan_tokens import PlanTokens
from forethought.tasks import Addition

K = 3


def plan_tokens(task=STAR, alpha=1.0, beta=1.0, **changed):
    model = gpt(task, PlanTokens.extra_positions(task, tokens=K), **changed)
    return PlanTokens(model, task, tokens=K, latent_width=5, alpha=alpha, beta=beta)


def build(*args, **options):
    return with_random_weights(plan_tokens(*args, **options))


def attend(m, query, seen):
    """One query over the vectors `seen`, head by head."""
    (wq, wk, wv), (bq, bk, bv) = m.in_proj_weight.chunk(3), m.in_proj_bias.chunk(3)
    size, mixed = len(query) // m.num_heads, []
    for h in range(m.num_heads):
        part = slice(h * size, (h + 1) * size)
        q = (wq @ query + bq)[part]
        scores = torch.stack([q @ (wk @ x + bk)[part] / math.sqrt(size) for x in seen])
        mixed.append(sum(w * (wv @ x + bv)[part] for w, x in zip(scores.softmax(0), seen, strict=True)))
    return m.out_proj.weight @ torch.cat(mixed) + m.out_proj.bias


def slow_encode(objective, answer):
    ae, hidden = objective.autoencoder, list(objective.model(torch.tensor([answer]))[0])
    return [
        ae.squeeze.weight
        @ slow_norm(query + attend(ae.attention, slow_norm(query, ae.query_norm), hidden), ae.norm)
        for query in ae.queries.weight
    ]


def slow_decode(objective, latents, answer):
    """Logits of each answer token."""
    ae, layer = objective.autoencoder, objective.autoencoder.decoder
    memory = [ae.widen.weight @ z for z in latents]
    read = [objective.task.dummy, *answer[:-1]]
    x = [ae.embedding.weight[token] + ae.position.weight[i] for i, token in enumerate(read)]
    normed, logits = [slow_norm(v, layer.norm1) for v in x], []
    for i, v in enumerate(x):
        v = v + attend(layer.self_attn, normed[i], normed[: i + 1])
        v = v + attend(layer.multihead_attn, slow_norm(v, layer.norm2), memory)
        inner = layer.linear1.weight @ slow_norm(v, layer.norm3) + layer.linear1.bias
        inner = inner * (1 + torch.erf(inner / math.sqrt(2))) / 2
        v = v + layer.linear2.weight @ inner + layer.linear2.bias
        logits.append(ae.embedding.weight @ slow_norm(v, ae.output_norm))
    return logits


def slow_states(objective, prompt, answer):
    """The model's states after reading prompt, plan tokens and some answer tokens."""
    embedding = objective.model.embedding.weight
    x = [*(embedding[t] for t in prompt), *objective.plan.weight, *(embedding[t] for t in answer)]
    return objective.model(torch.stack(x)[None], len(prompt))[0]


@torch.no_grad()
def slow_terms(objective, batch):
    weights, next_token, prediction, reconstruction = objective.model.embedding.weight, [], [], []
    for prompt, answer in zip(batch.prompt.tolist(), batch.answer.tolist(), strict=True):
        for i, token in enumerate(answer):
            next_token.append(negative_log(weights @ slow_states(objective, prompt, answer[:i])[-1], token))
        latents = slow_encode(objective, answer)
        plan = slow_states(objective, prompt, [])[len(prompt) :]
        for state, latent in zip(plan, latents, strict=True):
            for difference in (objective.project.weight @ state - latent).abs().tolist():
                prediction.append(difference**2 / 2 if difference < 1 else difference - 0.5)
        decoded = slow_decode(objective, latents, answer)
        reconstruction += [negative_log(logits, token) for logits, token in zip(decoded, answer, strict=True)]
    return [sum(values) / len(values) for values in (next_token, prediction, reconstruction)]


@pytest.mark.parametrize(
    ("task", "mask", "positions"),
    [
        (STAR, "causal", "learned"),
        (STAR, "prefix", "rotary"),
        (Addition(digits=2), "prefix", "learned"),
    ],
)
def test_loss(task, mask, positions):
    objective = build(task, alpha=0.7, beta=0.2, mask=mask, positions=positions)
    batch = rows(task, 2)
    one, two, three = slow_terms(objective, batch)
    assert [term.item() for term in objective.terms(batch)] == pytest.approx([one, two, three])
    assert objective.loss(batch).item() == pytest.approx(one + 0.7 * two + 0.2 * three)


def test_where_each_term_flows():
    """The latents are trained by reconstruction alone, and the model never by it."""
    objective = build()
    names, parameters = zip(*objective.named_parameters(), strict=True)
    expected = [{"model", "plan"}, {"model", "plan", "project"}, {"autoencoder"}]
    for term, parts in zip(objective.terms(rows()), expected, strict=True):
        gradients = torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
        reached = {name.split(".")[0] for name, g in zip(names, gradients, strict=True) if g is not None}
        assert reached == parts


@pytest.mark.parametrize("mask", ["causal", "prefix"])
@torch.no_grad()
def test_plan_tokens_are_seen_by_what_follows_and_not_by_the_prompt(mask):
    objective, states = build(mask=mask), []
    batch = rows(count=1)
    for changed in (None, 1):
        if changed is not None:
            objective.plan.weight[changed] += torch.randn(16)  # not a constant, which norms take out
        states.append(
            objective.model(objective.inputs(batch.prompt, batch.answer[:, :-1]), STAR.prompt_length)
        )
    moved = (states[1] - states[0]).abs().amax(2)[0] > 0
    assert moved.tolist() == [i > STAR.prompt_length for i in range(len(moved))]
    assert len(moved) == STAR.prompt_length + K + STAR.answer_length - 1


def test_prompt_tokens_carry_no_loss():
    (logits,) = logits_seen(build(), rows())
    assert logits.shape[1] == STAR.answer_length


@torch.no_grad()
def test_the_autoencoder_is_dropped_at_inference():
    objective, batch = build(), rows()
    logits, answer = objective.answer_logits(batch), objective.generate(batch.prompt, 4)
    del objective.autoencoder, objective.project
    assert torch.equal(objective.answer_logits(batch), logits)
    assert torch.equal(objective.generate(batch.prompt, 4), answer)
    objective.plan.weight.normal_()
    assert not torch.equal(objective.answer_logits(batch), logits)


@pytest.mark.parametrize("mask", ["causal", "prefix"])
@torch.no_grad()
def test_answer_logits_read_the_true_prefix_alone(mask):
    objective, batch = build(mask=mask), rows(count=1)
    prompt, answer = batch.prompt[0].tolist(), batch.answer[0].tolist()
    for i, logits in enumerate(objective.answer_logits(batch)[0]):
        state = slow_states(objective, prompt, answer[:i])[-1]
        torch.testing.assert_close(logits, objective.model.embedding.weight @ state)


def test_initialisation():
    objective = plan_tokens(width=64)
    before = dict(objective.named_parameters())
    for name in ("plan", "project", "autoencoder.queries", "autoencoder.squeeze", "autoencoder.widen"):
        assert before[f"{name}.weight"].std().item() == pytest.approx(0.02, rel=0.25)
    assert before["autoencoder.attention.in_proj_weight"].std().item() == pytest.approx(0.02, rel=0.05)
    assert before["autoencoder.norm.weight"].eq(1).all()
    # the model's own initialisation is not touched
    assert before["model.blocks.0.mlp.output.weight"].std().item() == pytest.approx(0.01, rel=0.05)
