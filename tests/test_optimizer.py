"""Which parameters decay, how the learning rate moves, and that Lightning really moves it."""

import math

import pytest
import torch
from helpers import choices, rows
from torch._subclasses.fake_tensor import FakeTensorMode

from forethought.config import Composer
from forethought.models import GPT
from forethought.objectives import NextToken
from forethought.objectives.token_order import TokenOrder
from forethought.optimizers import AdamW, Muon, split_by_decay
from forethought.tasks import Draws, PathStar
from forethought.training import build


def adamw(**changed):
    values = {
        "lr": 0.1,
        "betas": [0.9, 0.99],
        "weight_decay": 0.5,
        "warmup_steps": 10,
        "schedule": "constant",
        "final_lr_ratio": 0.1,
        "clip_norm": None,
    }
    return AdamW(**{**values, **changed})


def gpt():
    return GPT(vocabulary_size=5, context_length=6, layers=1, width=8, heads=2)


def test_biases_norms_and_embeddings_take_no_decay():
    model = gpt()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed, others = split_by_decay(model)
    assert len(decayed) + len(others) == len(names)
    assert {names[id(p)] for p in decayed} == {
        f"blocks.0.{part}.weight"
        for part in ("attention.input", "attention.output", "mlp.input", "mlp.output")
    }
    groups = adamw()(model, 100)["optimizer"].param_groups
    assert [group["weight_decay"] for group in groups] == [0.5, 0.0]


def test_schedules_by_step():
    constant, cosine = adamw(), adamw(schedule="cosine")
    for step in range(10):
        assert constant.factor(step, 100) == cosine.factor(step, 100) == pytest.approx((step + 1) / 10)
    assert {constant.factor(step, 100) for step in range(10, 101)} == {1.0}
    for step in range(10, 101):
        half = (1 + math.cos(math.pi * (step - 10) / 90)) / 2
        assert cosine.factor(step, 100) == pytest.approx(0.1 + 0.9 * half)
    assert cosine.factor(200, 100) == pytest.approx(0.1)
    assert adamw(warmup_steps=0).factor(0, 100) == 1


def test_the_scheduler_moves_the_rate_step_by_step():
    built = adamw()(gpt(), 100)
    rates = []
    for _ in range(12):
        rates.append(built["optimizer"].param_groups[0]["lr"])
        built["optimizer"].step()
        built["lr_scheduler"]["scheduler"].step()
    assert rates == pytest.approx([0.01 * i for i in range(1, 11)] + [0.1, 0.1])
    assert built["lr_scheduler"]["interval"] == "step"


def test_one_update_against_the_formula():
    """AdamW's first step: decay by lr * wd, then lr * sign(gradient) (Loshchilov & Hutter, alg. 2)."""
    torch.manual_seed(0)
    model = gpt()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = adamw(warmup_steps=0)(model, 100)["optimizer"]
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    decays = {id(parameter) for parameter in split_by_decay(model)[0]}
    for name, parameter in model.named_parameters():
        kept = before[name] * (1 - 0.1 * 0.5) if id(parameter) in decays else before[name]
        torch.testing.assert_close(parameter.detach(), kept - 0.1, atol=1e-6, rtol=1e-5)


TASK = PathStar(degree=2, path_length=3, num_nodes=6)


def muon(**changed):
    return Muon(**vars(adamw(weight_decay=0.0, **changed)), matrix_lr=0.2, momentum=0.9)


def objective(kind=NextToken, width=8):
    torch.manual_seed(0)
    size = TASK.prompt_length + TASK.answer_length
    return kind(GPT(len(TASK.vocabulary), size, layers=1, width=width, heads=2), TASK)


def train(module, optimizer, schedule, steps, first=0):
    for step in range(first, first + steps):
        loss = module.loss(TASK.sample(8, Draws(4 + step)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize("width", [8, len(TASK.vocabulary)])  # as wide as there are tokens, too
def test_muon_takes_the_matrices_inside_and_nothing_else(width):
    module = objective(TokenOrder, width)
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    matrices, rest = muon()(module, 100)["optimizer"].parts
    taken = {names[id(p)] for group in matrices.param_groups for p in group["params"]}
    assert taken == {
        f"model.blocks.0.{part}.weight"
        for part in ("attention.input", "attention.output", "mlp.input", "mlp.output")
    }
    left = {names[id(p)] for group in rest.param_groups for p in group["params"]}
    assert left == set(names.values()) - taken  # the embedding and TOP's output layer among them


def test_muon_s_first_update_is_orthogonal_and_as_large_as_adamw_s():
    module = objective()
    weight = module.model.blocks[0].attention.output.weight
    before = weight.detach().clone()
    built = muon(warmup_steps=0)(module, 100)
    train(module, built["optimizer"], built["lr_scheduler"]["scheduler"], 1)
    singular = torch.linalg.svdvals(before - weight.detach())
    # 0.2 sqrt(max(rows, columns)) times the rate, by five rough Newton-Schulz steps.
    expected = 0.2 * 0.2 * math.sqrt(8)
    assert singular[:-1].min() > 0.5 * expected  # the smallest may have been near nothing
    assert singular.max() < 1.5 * expected


def test_muon_goes_on_from_a_checkpoint_as_if_never_stopped():
    calm = objective()
    built = muon(schedule="cosine")(calm, 30)
    train(calm, built["optimizer"], built["lr_scheduler"]["scheduler"], 20)
    stopped = objective()
    first = muon(schedule="cosine")(stopped, 30)
    train(stopped, first["optimizer"], first["lr_scheduler"]["scheduler"], 12)
    resumed = objective()
    resumed.load_state_dict(stopped.state_dict())
    second = muon(schedule="cosine")(resumed, 30)
    second["optimizer"].load_state_dict(first["optimizer"].state_dict())
    second["lr_scheduler"]["scheduler"].load_state_dict(first["lr_scheduler"]["scheduler"].state_dict())
    train(resumed, second["optimizer"], second["lr_scheduler"]["scheduler"], 8, first=12)
    for name, parameter in calm.named_parameters():
        assert torch.equal(parameter, resumed.get_parameter(name)), name


@pytest.mark.parametrize("optimizer", choices("optimizer"))
@pytest.mark.parametrize("model", [name for name in choices("model") if name != "pretrained"])
def test_an_update_asks_the_device_for_no_value(model, optimizer):
    """Backward, clipping and step, as `test_every_objective.py` has it of the losses."""
    words = ["experiment=smoke", "hardware=cpu", f"model={model}", f"optimizer={optimizer}"]
    with FakeTensorMode(allow_non_fake_inputs=True):
        parts = build(Composer(words).cells()[0].config)
        made = parts.objective.make_optimizer(parts.objective, 100)["optimizer"]
        parts.objective.loss(rows(parts.task)).backward()
        torch.nn.utils.clip_grad_norm_(parts.objective.parameters(), 1.0)
        made.step()
