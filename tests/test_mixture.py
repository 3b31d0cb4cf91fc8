"""Mixtures of objectives against the sum of their losses, each computed alone."""

import pytest
import torch
from helpers import STAR, chosen, gpt, rows, with_large_weights

from forethought.errors import Impossible, InputError
from forethought.evaluation import grad_flow
from forethought.objectives import Mixture, NextLatent, NextToken, Teacherless, TokenOrder
from forethought.objectives.added_loss import AddedLoss


def build(parts, weights=None, mask="causal", **options):
    torch.manual_seed(0)
    return with_large_weights(Mixture(gpt(mask=mask), STAR, parts, weights, options))


def gradients(loss, objective):
    return torch.autograd.grad(loss, list(objective.model.parameters()))


@pytest.mark.parametrize("mask", ["causal", "prefix"])
def test_the_loss_is_the_weighted_sum(mask):
    """Of what each part adds to next-token prediction, or of its whole loss; and so are all gradients."""
    weights = {"next_token": 0.5, "token_order": 0.9, "next_latent": 0.3, "teacherless": 2.0}
    mixture, batch = build(list(weights), list(weights.values()), mask), rows()
    next_token = mixture.parts["next_token"].loss(batch)
    slow = 0.5 * next_token + 2 * mixture.parts["teacherless"].loss(batch)
    for name in ("token_order", "next_latent"):
        slow = slow + weights[name] * (mixture.parts[name].loss(batch) - next_token)
    fast = mixture.loss(batch)
    torch.testing.assert_close(fast, slow)
    for got, want in zip(gradients(fast, mixture), gradients(slow, mixture), strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize(
    "name",
    [
        "token_order",
        "next_latent",
        "hierarchical_latent",
        "future_summary",
        "bag_window",
        "multi_token",
        "sequential_multi_token",
        "next_token_injection",
        "anchored_multi_token",
    ],
)
def test_a_pair_is_the_objective_itself(name):
    mixture, batch = build(["next_token", name]), rows()
    part = mixture.parts[name]
    assert isinstance(part, AddedLoss)
    torch.testing.assert_close(mixture.loss(batch), part.loss(batch))


def test_parts_share_one_pass():
    calls = []
    mixture = build(["next_token", "token_order", "next_latent", "teacherless"])
    mixture.model.register_forward_hook(lambda *_: calls.append(1))
    mixture.loss(rows())
    assert len(calls) == 2  # teacherless reads another input


def test_the_first_part_decodes():
    batch = rows(count=8)
    mixture = build(["teacherless", "next_token"])
    plain = Teacherless(mixture.model, STAR)
    assert not mixture.teacher_forced
    assert mixture.next_token_layout == plain.next_token_layout
    assert torch.equal(mixture.generate(batch.prompt, 4), plain.generate(batch.prompt, 4))
    torch.testing.assert_close(mixture.answer_logits(batch), plain.answer_logits(batch))
    assert build(["next_token", "teacherless"]).teacher_forced
    assert not build(["masked_diffusion", "next_token"]).next_token_layout
    assert grad_flow(build(["next_token", "teacherless"]), batch).shape[0] == 4


def test_options_reach_their_part():
    mixture = build(["next_token", "next_latent"], next_latent={"horizon": 2})
    assert (type(mixture.parts["next_latent"]), mixture.parts["next_latent"].horizon) == (NextLatent, 2)
    assert Mixture.extra_positions(STAR, parts=["next_token", "plan_tokens"]) == 4
    assert Mixture.extra_positions(STAR, parts=["plan_tokens"], options={"plan_tokens": {"tokens": 7}}) == 7
    assert [type(part) for part in build(["next_token", "token_order"]).parts.values()] == [
        NextToken,
        TokenOrder,
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"parts": ["next_tokn"]}, r"parts=next_tokn: no such objective; .*did you mean next_token\?"),
        ({"parts": ["mixture"]}, "parts=mixture: no such objective"),
        ({"parts": ["next_token", "next_token"]}, "a part comes twice"),
        ({"weights": [1.0]}, r"weights=\[1.0\]: expected 3 weights"),
        ({"weights": [0.0, 0.0, 0.0]}, "not all 0"),
        ({"options": {"teacherless": {}}}, "options.teacherless: not among the parts"),
        ({"options": {"token_order": {"windw": 2}}}, r"token_order\.windw: no such option; .*mean window\?"),
        ({"options": {"token_order": {"window": 0}}}, r"token_order\.window=0: out of range; use .* above 0"),
    ],
)
def test_mistakes_are_one_line(words, message):
    _, options = chosen("objective", "mixture")
    with pytest.raises(InputError, match=rf"^objective\..*{message}") as raised:
        Mixture(gpt(), STAR, **options | words)
    assert (raised.type is Impossible) == ("weights" in words)  # a sweep over both lists skips such a cell


def test_parts_know_the_step():
    """At step 0, heads that join one by one have no weight yet."""
    mixture, batch = build(["next_token", "multi_token"], multi_token={"grow_steps": 10}), rows()
    mixture.steps = 0
    torch.testing.assert_close(mixture.loss(batch), mixture.parts["next_token"].loss(batch))
