"""Every objective in conf/, found by itself: what a checkpoint holds, and one batch learned by heart."""

import io
import pkgutil
import warnings
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
import torch
from helpers import (
    CONF,
    LONG_STAR,
    SHORT_STAR,
    STAR,
    by_heart,
    choices,
    gpt,
    learns,
    rows,
    with_large_weights,
)
from omegaconf import OmegaConf
from torch._subclasses.fake_tensor import FakeTensorMode

from forethought.tasks import Data, PathStar


def decides(objective, batch):
    """Through generation from the true start, the only prefix that it ever learns to continue."""
    length = batch.answer.shape[1]
    answer = objective.generate(batch.prompt, length, prefix=batch.answer[:, :1])
    return torch.equal(answer[:, 1], batch.answer[:, 1])


def chosen(objective):
    """Return the class and the options that a YAML file in conf/objective names."""
    choice = OmegaConf.to_container(OmegaConf.load(CONF / "objective" / f"{objective}.yaml"))
    choice.pop("label", None)
    return pkgutil.resolve_name(choice.pop("_target_")), choice


class Case(NamedTuple):
    """Options beside those of the YAML file, and what it takes to learn one batch."""

    options: Mapping[str, Any] = MappingProxyType({})
    task: PathStar = STAR
    mask: str = "causal"
    lr: float = 1e-2
    learned: Callable[..., bool] = by_heart

    def build(self, objective, seed=0):
        target, options = chosen(objective)
        options |= self.options
        extra = target.extra_positions(self.task, **options)
        model = gpt(self.task, extra, seed, layers=1, width=32, mask=self.mask)
        return target(model, self.task, **options)


# An objective that is not named here has its YAML file's options.
CASES = {
    "any_order": [Case(), Case({"order": "right_to_left"})],
    # By the task's check alone; the answers are short, or none of the first samples would be right.
    "best_of_k": [Case({"samples": 32, "judge": "task"}, SHORT_STAR)],
    "decision_only": [Case(learned=decides)],
    "lookahead_insertion": [Case(), Case({"force": 1}, LONG_STAR)],
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
    "register_tokens": [Case(task=LONG_STAR)],
    "teacherless": [Case(), Case({"next_token_weight": 0.5})],
}
every_objective = pytest.mark.parametrize(
    ("name", "case"),
    [
        pytest.param(name, case, id="-".join([name, *(f"{k}={v}" for k, v in case.options.items())]))
        for name in choices("objective")
        for case in CASES.get(name, [Case()])
    ],
)


@every_objective
@torch.no_grad()
def test_a_checkpoint_holds_all_that_was_learned(name, case):
    """An objective with other weights answers otherwise, and does the same once the checkpoint is read."""
    batch = rows(case.task, 32)
    trained, other = (with_large_weights(case.build(name, seed)) for seed in (0, 1))
    for objective in (trained, other):
        for parameter in objective.parameters():
            parameter += 0.1 * torch.randn_like(parameter)  # those that `with_large_weights` leaves alike

    def does(objective):
        torch.manual_seed(3)
        return {
            "answer": objective.generate(batch.prompt, case.task.answer_length),
            "logits": objective.answer_logits(batch),
            "loss": objective.loss(batch),
            **objective.diagnostics(batch),
        }

    expected, before = does(trained), does(other)
    assert not torch.equal(before["answer"], expected["answer"])
    file = io.BytesIO()
    torch.save(trained.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    for key, value in does(other).items():
        assert torch.equal(value, expected[key]), key


@every_objective
def test_learns_one_batch_by_heart(name, case):
    """Through its own decoding."""
    objective, batch = case.build(name), rows(case.task, 8)
    assert learns(objective, batch, steps=600, lr=case.lr, learned=case.learned)


@every_objective
def test_a_training_step_asks_the_device_for_no_value(name, case):
    """On a GPU the step would have to wait for it. Tensors without values have none to tell."""
    objective, data = case.build(name), Data(case.task, 0, 4)
    data.batch(0)  # finds out, once, what share of the rows may be trained on
    with FakeTensorMode(allow_non_fake_inputs=True):
        objective.loss(data.batch(1)).backward()


@every_objective
def test_autocast_leaves_the_loss_in_full_precision(name, case):
    objective = case.build(name)
    with warnings.catch_warnings(), torch.autocast("cpu", torch.bfloat16):
        warnings.simplefilter("error")  # such as of kernels that are slow for want of equal types
        loss = objective.loss(rows(case.task, 32))
    assert loss.dtype == torch.float32
    loss.backward()
    for key, parameter in objective.named_parameters():  # also after tokens that were drawn without gradient
        assert parameter.grad is not None, key
