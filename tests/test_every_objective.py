"""Every objective in conf/: masks, the checkpoint, one batch learned by heart, device syncs, autocast."""

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
    choices,
    chosen,
    gpt,
    learns,
    rows,
    with_large_weights,
)
from pydantic import ValidationError
from torch._subclasses.fake_tensor import FakeTensorMode

from forethought import objectives
from forethought.errors import Impossible
from forethought.objectives import LookaheadInsertion, PlanTokens
from forethought.tasks import Data, PathStar


def decides(objective, batch):
    """Return True if every decision is right after the true start, the only prefix in training."""
    length = batch.answer.shape[1]
    answer = objective.generate(batch.prompt, length, prefix=batch.answer[:, :1])
    return torch.equal(answer[:, 1], batch.answer[:, 1])


class Case(NamedTuple):
    """Options beside those of the YAML file, and the settings to learn one batch by heart."""

    options: Mapping[str, Any] = MappingProxyType({})
    task: PathStar = STAR
    mask: str = "causal"
    lr: float = 1e-2
    learned: Callable[..., bool] = by_heart

    def build(self, objective, seed=0):
        target, options = chosen("objective", objective)
        options |= self.options
        extra = target.extra_positions(self.task, **options)
        model = gpt(self.task, extra, seed, layers=1, width=32, mask=self.mask)
        return target(model, self.task, **options)


# All other objectives take the options of their YAML files.
CASES = {
    "any_order": [Case(), Case({"order": "right_to_left"})],
    # Short answers, so that some of the first samples are right.
    "best_of_k": [Case({"samples": 32, "judge": "task"}, SHORT_STAR)],
    "decision_only": [Case(learned=decides)],
    "future_summary": [Case(lr=5e-3)],
    "lookahead_insertion": [Case(), Case({"force": 1})],
    "masked_diffusion": [
        Case({"steps": 3}, LONG_STAR),
        Case({"steps": 3, "weighting": "mgdm"}, LONG_STAR, mask="full"),
    ],
    "masked_next_token": [
        Case({"rate": 0.3}, LONG_STAR),
        Case({"rate": 0.3, "corruption": "replace", "positions": "span"}, LONG_STAR),
    ],
    "multi_token": [Case(), Case({"speculate": True})],
    "policy_gradient": [Case({"samples": 32}, SHORT_STAR, lr=3e-3)],
    "ranking_into_the_future": [Case(lr=5e-3)],
    "register_tokens": [Case(task=LONG_STAR)],
    "teacherless": [Case(lr=5e-3), Case({"next_token_weight": 0.5})],
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


@pytest.mark.parametrize(("target", "option"), [(PlanTokens, "tokens"), (LookaheadInsertion, "span")])
def test_options_of_extra_positions_are_validated(target, option):
    for wrong in (0, "3", True, 2.0):
        with pytest.raises(ValidationError, match=option):
            target.extra_positions(STAR, **{option: wrong})
    assert target.extra_positions(STAR, another=1) == target.extra_positions(STAR)


@pytest.mark.parametrize("name", choices("objective"))
def test_unsupported_masks_are_rejected(name):
    target, options = chosen("objective", name)
    assert ("full" in target.masks) == (name in {"masked_diffusion", "teacherless"})
    for mask in {"causal", "prefix", "full", "sideways"} - {*target.masks}:
        model = gpt()
        model.mask = mask
        accepted = ".*".join(target.masks)
        with pytest.raises(Impossible, match=rf"model\.mask={mask}: .*{target.__name__}.*{accepted}"):
            target(model, STAR, **options)


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
            **objective.diagnostics(batch),
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
def test_learns_one_batch_by_heart(name, case):
    objective, batch = case.build(name), rows(case.task, 8)
    assert learns(objective, batch, steps=600, lr=case.lr, learned=case.learned)


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
        assert parameter.grad is not None, key
