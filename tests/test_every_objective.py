"""Every objective in conf/: options, masks, inference, the checkpoint, learning, device syncs, autocast."""

import io
import warnings
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
import torch
from helpers import (
    LONG_STAR,
    SHORT_STAR,
    STAR,
    by_heart,
    carries_loss,
    choices,
    chosen,
    gpt,
    greedy,
    learns,
    rows,
    with_large_weights,
)
from pydantic import ValidationError
from torch._subclasses.fake_tensor import FakeTensorMode

from forethought import objectives
from forethought.errors import Impossible
from forethought.evaluation import Decoding
from forethought.objectives import LatentLookahead, LookaheadInsertion, NextToken, PlanTokens
from forethought.tasks import Batch, Data, PathStar


def decides(objective, batch):
    """Return True if every decision is right after the true start, the only prefix in training."""
    length = batch.answer.shape[1]
    answer = objective.generate(batch.prompt, length, prefix=batch.answer[:, :1])
    return torch.equal(answer[:, 1], batch.answer[:, 1])


class EndsInZero(PathStar):
    """Accepts all answers whose last token is 0, so that an untrained policy is often right."""

    def check(self, prompt, answer):
        return (answer[:, -1] != 0).long()


def succeeds(objective, batch):
    """Return True if the task accepts every answer."""
    answer = objective.generate(batch.prompt, batch.answer.shape[1])
    return not objective.task.check(batch.prompt, answer).any()


class Case(NamedTuple):
    """Options beside those of the YAML file, and the settings to learn one batch by heart."""

    options: Mapping[str, Any] = MappingProxyType({})
    task: PathStar = STAR
    mask: str = "causal"
    layers: int = 1
    lr: float = 1e-2
    learned: Callable[..., bool] = by_heart
    copies: int = 1  # of the rows in each step, against the noise of a loss that draws few numbers

    def build(self, objective, seed=0):
        target, options = chosen("objective", objective)
        options |= self.options
        extra = target.extra_positions(self.task, **options)
        model = gpt(self.task, extra, seed, layers=self.layers, width=32, mask=self.mask)
        return target(model, self.task, **options)


# All other objectives take the options of their YAML files.
CASES = {
    "any_order": [Case(), Case({"order": "right_to_left"})],
    # Short answers, so that some of the first samples are right.
    "best_of_k": [Case({"samples": 32, "judge": "task"}, SHORT_STAR)],
    "block_diffusion": [
        Case({"block_length": 2}),
        Case({"block_length": 1, "min_rate": 1.0, "weighting": "uniform"}, mask="prefix"),
    ],
    "decision_only": [Case(learned=decides)],
    "future_summary": [Case(lr=5e-3), Case({"summary": "revlm"}, lr=5e-3)],
    "insertion": [Case(task=SHORT_STAR, mask="full", lr=3e-3, copies=8)],
    "joint_multi_token": [Case(), Case({"variant": "nextlat"})],
    "latent_lookahead": [
        Case({"slots": 2}, SHORT_STAR, lr=3e-3),
        Case({"slots": 2, "blocks": 1}, SHORT_STAR, mask="prefix", lr=5e-3),
    ],
    "lookahead_insertion": [Case(), Case({"force": 1})],
    "masked_diffusion": [
        Case({"steps": 3}, LONG_STAR),
        Case({"steps": 3, "weighting": "mgdm"}, LONG_STAR, mask="full"),
    ],
    "masked_next_token": [
        Case({"rate": 0.3}, LONG_STAR),
        Case({"rate": 0.3, "corruption": "replace", "positions": "span"}, LONG_STAR),
    ],
    "mixture": [Case(), Case({"parts": ["teacherless", "next_token"], "weights": None}, lr=5e-3)],
    "multi_token": [Case(), Case({"speculate": True}), Case({"heads": "linear"})],
    "n_token_reasoner": [
        Case({"horizon": 1, "samples": None}, SHORT_STAR, lr=3e-3),
        Case({"judge": "data_likelihood", "samples": None, "entropy_weight": 1.0}, lr=1e-3),
        Case({"samples": 32}, SHORT_STAR, lr=3e-3),
    ],
    "next_token_injection": [Case(), Case({"horizon": 3, "layers": 0})],
    "policy_gradient": [Case({"samples": 32}, SHORT_STAR, lr=3e-3)],
    "preference": [Case({"variant": "rpo"})],
    "ranking_into_the_future": [Case(lr=5e-3)],
    "register_tokens": [Case(task=LONG_STAR)],
    "teacherless": [Case(lr=5e-3), Case({"next_token_weight": 0.5})],
    "value_guided": [Case(task=EndsInZero(degree=2, path_length=2, num_nodes=3), learned=succeeds)],
}
every_objective = pytest.mark.parametrize(
    ("name", "case"),
    [
        pytest.param(name, case, id="-".join([name, *(f"{k}={v}" for k, v in case.options.items())]))
        for name in choices("objective")
        for case in CASES.get(name, [Case()])
    ],
)


@pytest.mark.parametrize("name", choices("objective"))
def test_every_objective_is_exported(name):
    target, _ = chosen("objective", name)
    assert target.__name__ in objectives.__all__
    assert getattr(objectives, target.__name__) is target


@pytest.mark.parametrize(
    ("target", "option"), [(LatentLookahead, "slots"), (LookaheadInsertion, "span"), (PlanTokens, "tokens")]
)
def test_options_of_extra_positions_are_validated(target, option):
    for wrong in (0, "3", True, 2.0):
        with pytest.raises(ValidationError, match=option):
            target.extra_positions(STAR, **{option: wrong})
    assert target.extra_positions(STAR, another=1) == target.extra_positions(STAR)


@every_objective
def test_no_option_takes_the_place_of_the_step(name, case):
    """Training sets `steps` in every batch: an option kept there would be lost."""
    assert case.build(name).steps is None


# Each option by itself.
INVALID = {
    "anchored_multi_token": {"horizon": 0, "latent_weight": -0.1, "semantic_weight": -0.1},
    "any_order": {"order": "inside_out"},
    "bag_window": {"windows": [2, 1], "weight": -1.0},
    "best_of_k": {"samples": 1, "temperature": 0.0, "judge": "taste"},
    "block_diffusion": {"block_length": 0, "weighting": "elbo", "min_rate": -0.1, "max_rate": 0.0},
    "hierarchical_latent": {
        "horizon": 0,
        "window": 0,
        "latent_weight": -1.0,
        "kl_weight": -1.0,
        "summary_weight": -1.0,
        "combined_weight": -1.0,
        "proj_factor": 0.0,
    },
    "future_summary": {"window": 1, "weight": -1.0, "summary": "sentence"},
    "joint_multi_token": {"horizon": 1, "hidden_scale": -0.1, "heads": 0, "variant": "v2", "weight": -1.0},
    "latent_lookahead": {"slots": 0, "blocks": 0, "weight": 0.0},
    "lookahead_insertion": {"probability": 1.5},
    "masked_diffusion": {"gamma": 0.5, "weighting": "elbo"},
    "masked_next_token": {"rate": 1.5, "corruption": "drop", "positions": "all"},
    "mixture": {"parts": "next_token", "weights": [-1.0], "options": 3},
    "multi_token": {
        "horizon": 0,
        "loss_scope": "all",
        "heads": "mlp",
        "weight": -1.0,
        "grow_steps": 0,
        "speculate": 1,
    },
    "n_token_reasoner": {"horizon": 0, "judge": "taste", "samples": 1, "entropy_weight": -1.0},
    "next_latent": {"horizon": 0, "proj_factor": 0.0, "kl_weight": -1.0, "latent_weight": -1.0},
    "next_token_injection": {"horizon": 1, "layers": -1},
    "plan_tokens": {"tokens": 0, "latent_width": 0, "alpha": -1.0, "beta": -1.0},
    "policy_gradient": {
        "samples": 1,
        "temperature": 0.0,
        "reward": "taste",
        "advantage": "none",
        "kl_weight": -1.0,
    },
    "preference": {"variant": "ppo", "beta": 0.0, "nll_weight": -1.0},
    "register_tokens": {"max_offset": 1, "register_weight": 1.0},
    "reverse_augmented": {"probability": 1.5},
    "scheduled_sampling": {"final_probability": 1.5, "growth_steps": 0},
    "sequential_multi_token": {"horizon": 0, "chain_weight": -0.1},
    "token_order": {"window": 0, "weight": -1.0},
    "value_guided": {"variant": "fudge", "eta": 0.0},
}


@pytest.mark.parametrize(
    ("name", "option"), [(name, option) for name, options in INVALID.items() for option in options]
)
def test_invalid_options_are_rejected(name, option):
    target, options = chosen("objective", name)
    with pytest.raises(ValidationError, match=option):
        target(gpt(), STAR, **options | {option: INVALID[name][option]})


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("anchored_multi_token", {"horizon": 5}, "horizon=5: .* at most 4"),
        ("hierarchical_latent", {"horizon": 24}, "horizon=24: .* at most 23"),
        ("hierarchical_latent", {"window": 25}, "window=25: .* at most 24"),
        ("block_diffusion", {"min_rate": 0.5, "max_rate": 0.3}, r"min_rate=0\.5: .* at most 0\.3"),
        ("future_summary", {"summary": "revlm", "window": 2}, "window=2: .*summary=revlm.*use null"),
        ("joint_multi_token", {"heads": 3}, r"heads=3: .* divisor of model\.width=16"),
        ("joint_multi_token", {"horizon": 5}, "horizon=5: .* at most 4"),
        ("lookahead_insertion", {"span": 5}, "span=5: .* at most 4"),
        ("lookahead_insertion", {"span": 2, "force": 3}, "force=3: .* at most 2"),
        ("multi_token", {"horizon": 5}, "horizon=5: .* at most 4"),
        ("n_token_reasoner", {"horizon": 5}, "horizon=5: .* at most 4"),
        ("n_token_reasoner", {"horizon": 3, "samples": None}, r"samples=null: .*11\^3.*1,024.*horizon"),
        ("next_latent", {"horizon": 24}, "horizon=24: .* at most 23"),
        ("next_token_injection", {"horizon": 5}, "horizon=5: .* at most 4"),
        ("register_tokens", {"max_offset": 5}, "max_offset=5: .* at most 4"),
        ("sequential_multi_token", {"horizon": 5}, "horizon=5: .* at most 4"),
    ],
)
def test_options_beyond_the_task_or_the_model_are_rejected(name, options, message):
    target, defaults = chosen("objective", name)
    with pytest.raises(Impossible, match=rf"objective\.{message}"):
        target(gpt(), STAR, **defaults | options)


@pytest.mark.parametrize("name", choices("objective"))
def test_unsupported_masks_are_rejected(name):
    target, options = chosen("objective", name)
    assert ("full" in target.masks) == (name in {"insertion", "masked_diffusion", "teacherless"})
    for mask in {"causal", "prefix", "full", "sideways"} - {*target.masks}:
        model = gpt()
        model.mask = mask
        accepted = ".*".join(target.masks)
        with pytest.raises(Impossible, match=rf"model\.mask={mask}: .*{target.__name__}.*{accepted}"):
            target(model, STAR, **options)


# Options under which training differs most from inference: all inputs damaged or sampled, a frozen copy.
DECODES_AS_NEXT_TOKEN = {
    "anchored_multi_token": {},
    "best_of_k": {},
    "decision_only": {},
    "hierarchical_latent": {},
    "bag_window": {},
    "future_summary": {"summary": "revlm"},
    "joint_multi_token": {},
    "lookahead_insertion": {"force": None},
    "masked_next_token": {"rate": 1.0},
    "mixture": {},
    "multi_token": {},
    "myopic": {},
    "n_token_reasoner": {},
    "next_latent": {},
    "next_token": {},
    "next_token_injection": {},
    "policy_gradient": {"refresh": 2, "kl_weight": 0.1},
    "preference": {},
    "ranking_into_the_future": {},
    "register_tokens": {},
    "reverse_augmented": {"probability": 1.0},
    "scheduled_sampling": {"final_probability": 1.0},
    "sequential_multi_token": {},
    "token_order": {},
}


@pytest.mark.parametrize("mask", ["causal", "prefix"])
@pytest.mark.parametrize("name", DECODES_AS_NEXT_TOKEN)
@torch.no_grad()
def test_inference_of_next_token_prediction(name, mask):
    """Decoding with a cache reads no weights but the model's, and agrees with reading everything anew."""
    objective = with_large_weights(Case(DECODES_AS_NEXT_TOKEN[name], mask=mask, layers=2).build(name))
    batch = rows(count=8)
    for key, parameter in objective.named_parameters():
        if not key.startswith("model."):
            parameter.fill_(torch.nan)
    plain = NextToken(objective.model, STAR)
    torch.testing.assert_close(objective.answer_logits(batch), plain.answer_logits(batch))
    for prefix in (None, batch.answer[:, :2], batch.answer):
        answer = objective.generate(batch.prompt, 4, prefix=prefix)
        assert torch.equal(answer, greedy(objective.model, batch.prompt, 4, prefix))
        assert len(answer.unique(dim=0)) > 2  # the rows are not all answered alike


@pytest.mark.parametrize("mask", ["causal", "prefix"])
@pytest.mark.parametrize(
    "name", ["any_order", "belief_state", "latent_lookahead", "plan_tokens", "value_guided"]
)
@torch.no_grad()
def test_decoding_takes_the_likeliest_teacher_forced_tokens(name, mask):
    objective = with_large_weights(Case(mask=mask, layers=2).build(name), std=1.0)
    batch = rows(count=16)
    for prefix in (None, batch.answer[:, :2], batch.answer):
        expected = batch.answer.clone()
        for i in range(0 if prefix is None else prefix.shape[1], 4):
            expected[:, i] = objective.answer_logits(Batch(batch.prompt, expected))[
                :, i, : STAR.dummy
            ].argmax(1)
        for _ in range(2):
            assert torch.equal(objective.generate(batch.prompt, 4, prefix=prefix), expected)
        assert len(expected.unique(dim=0)) > 2  # the rows are not all answered alike


NOT_LEFT_TO_RIGHT = [
    ("any_order", "order"),
    ("block_diffusion", "block_length"),
    ("insertion",),
    ("lookahead_insertion", "force"),
    ("masked_diffusion", "steps"),
    ("masked_diffusion", "steps", "weighting"),
    ("mixture", "parts", "weights"),
    ("teacherless",),
]


@every_objective
@torch.no_grad()
def test_left_to_right_logits_read_what_is_before_alone(name, case):
    """And greedy decoding takes the likeliest of these, one by one."""
    objective = with_large_weights(case.build(name)).eval()
    if (name, *case.options) in NOT_LEFT_TO_RIGHT:
        assert not objective.left_to_right
        return
    assert objective.left_to_right
    batch = rows(case.task, 8)
    expected = objective.answer_logits(batch)
    for i in range(case.task.answer_length):
        for later in (torch.full_like(batch.answer, case.task.dummy), batch.answer.flip(0)):
            answer = torch.cat([batch.answer[:, :i], later[:, i:]], 1)
            logits = objective.answer_logits(Batch(batch.prompt, answer))
            torch.testing.assert_close(logits[:, : i + 1], expected[:, : i + 1])
    beam = Decoding(decoding="beam", beams=1)
    for prefix in (None, batch.answer[:, :0], batch.answer[:, :2]):
        found = beam.generate(objective, batch.prompt, case.task.answer_length, prefix)
        assert torch.equal(found, objective.generate(batch.prompt, case.task.answer_length, prefix=prefix))


LOSS_OF_NEXT_TOKEN = {
    "anchored_multi_token": {"horizon": 1},
    "bag_window": {"weight": 0.0},
    "future_summary": {"weight": 0.0},
    "hierarchical_latent": {
        "latent_weight": 0.0,
        "kl_weight": 0.0,
        "summary_weight": 0.0,
        "combined_weight": 0.0,
    },
    "masked_next_token": {"rate": 0.0},
    "mixture": {"weights": [1.0, 0.0, 0.0]},
    "multi_token": {"horizon": 1},
    "myopic": {},
    "next_latent": {"latent_weight": 0.0, "kl_weight": 0.0},
    "register_tokens": {"register_weight": 0.0},
    "reverse_augmented": {"probability": 0.0},
    "scheduled_sampling": {"growth_steps": 10},
    "sequential_multi_token": {"chain_weight": 0.0},
    "token_order": {"weight": 0.0},
}


@pytest.mark.parametrize("mask", ["causal", "prefix"])
@pytest.mark.parametrize("name", LOSS_OF_NEXT_TOKEN)
def test_loss_of_next_token_prediction(name, mask):
    """Without weight on any other term, at step 0, further weights get no gradient."""
    objective = with_large_weights(Case(LOSS_OF_NEXT_TOKEN[name], mask=mask, layers=2).build(name))
    objective.steps = 0
    loss = objective.loss(rows())
    expected = NextToken(objective.model, STAR).loss(rows()).item()
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    loss.backward()
    for key, parameter in objective.named_parameters():
        assert key.startswith("model.") or parameter.grad is None or not parameter.grad.any(), key


@pytest.mark.parametrize(
    "name",
    [
        "any_order",
        "future_summary",
        "masked_next_token",
        "myopic",
        "next_token",
        "ranking_into_the_future",
        "teacherless",
        "token_order",
    ],
)
def test_prompt_tokens_carry_no_loss(name):
    """No gradient reaches the last hidden state of any prompt token but the last."""
    carrying = carries_loss(with_large_weights(Case(layers=2).build(name)), rows()).any(0)
    assert carrying.tolist() == [False] * (STAR.prompt_length - 1) + [True] * STAR.answer_length


@pytest.mark.parametrize(("name", "layer"), [("future_summary", "summary"), ("token_order", "order")])
def test_an_added_output_layer_alone_hears_the_added_loss(name, layer):
    objective = with_large_weights(Case().build(name))
    objective.model.logits = lambda hidden, plain=objective.model.logits: plain(hidden).detach()
    objective.loss(rows()).backward()
    assert getattr(objective, layer).weight.grad.any()
    never_read = STAR.dummy  # its embedding could hear of the loss through the output layer alone
    assert not objective.model.embedding.weight.grad[never_read].any()


@every_objective
@torch.no_grad()
def test_a_checkpoint_holds_all_that_was_learned(name, case):
    """An objective with other weights differs, and agrees after it has loaded the checkpoint."""
    batch = rows(case.task, 32)
    trained, other = (with_large_weights(case.build(name, seed)) for seed in (0, 1))
    for objective in (trained, other):
        for parameter in objective.parameters():
            parameter += 0.1 * torch.randn_like(parameter)  # `with_large_weights` makes some equal.

    def outputs(objective):
        torch.manual_seed(3)
        return {
            "answer": objective.generate(batch.prompt, case.task.answer_length),
            "logits": objective.answer_logits(batch),
            "loss": objective.loss(batch),
            **objective.diagnostics(batch, case.task),
        }

    expected, before = outputs(trained), outputs(other)
    assert not torch.equal(before["answer"], expected["answer"])
    file = io.BytesIO()
    torch.save(trained.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    for key, value in outputs(other).items():
        assert torch.equal(value, expected[key]), key


@every_objective
@pytest.mark.slow
def test_learns_one_batch_by_heart(name, case):
    objective, batch = case.build(name), rows(case.task, 8)
    batch = Batch(batch.prompt.repeat(case.copies, 1), batch.answer.repeat(case.copies, 1))
    assert learns(objective, batch, steps=600, lr=case.lr, learned=case.learned)


@pytest.mark.slow  # tests/test_device.py takes a step of each objective, at the options of its YAML file
@every_objective
def test_a_training_step_needs_no_device_sync(name, case):
    """Fake tensors have no values, so reading one raises an error."""
    objective, data = case.build(name), Data(case.task, 0, 4)
    data.batch(0)  # Estimates, once, the share of trainable rows.
    with FakeTensorMode(allow_non_fake_inputs=True):
        objective.loss(data.batch(1)).backward()


@every_objective
def test_autocast_leaves_the_loss_in_full_precision(name, case):
    objective = case.build(name)
    with warnings.catch_warnings(), torch.autocast("cpu", torch.bfloat16):
        warnings.simplefilter("error")  # Such as those of kernels that are slow on mixed types.
        loss = objective.loss(rows(case.task, 32))
    assert loss.dtype == torch.float32
    loss.backward()
    for key, parameter in objective.named_parameters():  # Also after sampling under no_grad.
        assert parameter.grad is not None or not parameter.requires_grad, key
