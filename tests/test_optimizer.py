"""Decay groups, schedules and Muon."""

import math
from functools import partial

import pytest
import torch
from helpers import choices, rows
from torch._subclasses.fake_tensor import FakeTensorMode

from forethought.config import Composer
from forethought.models import GPT
from forethought.objectives import NextToken
from forethought.objectives.future_summary import FutureSummary
from forethought.objectives.plan_tokens import PlanTokens
from forethought.objectives.token_order import TokenOrder
from forethought.optimizers import Muon, OptimizerFactory, split_by_decay
from forethought.optimizers.orthogonal import OrthogonalMomentum, orthogonalise
from forethought.tasks import PathStar
from forethought.training import build

OPTIONS = {"lr": 0.1, "betas": [0.9, 0.99], "weight_decay": 0.5}


def factory(kind=torch.optim.AdamW, options=OPTIONS, **changed):
    values = {"warmup_steps": 10, "clip_norm": None, **changed}
    return OptimizerFactory(kind=kind, options=options, **values)


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
    groups = factory()(model, 100)["optimizer"].param_groups
    assert [group["weight_decay"] for group in groups] == [0.5, 0.0]


def test_schedules_by_step():
    constant, cosine = factory(), factory(schedule="cosine")
    for step in range(10):
        assert constant.factor(step, 100) == cosine.factor(step, 100) == pytest.approx((step + 1) / 10)
    assert {constant.factor(step, 100) for step in range(10, 101)} == {1.0}
    for step in range(10, 101):
        half = (1 + math.cos(math.pi * (step - 10) / 90)) / 2
        assert cosine.factor(step, 100) == pytest.approx(0.1 + 0.9 * half)
    assert cosine.factor(200, 100) == pytest.approx(0.1)
    assert factory(warmup_steps=0).factor(0, 100) == 1


def test_the_scheduler_moves_the_rate_step_by_step():
    built = factory()(gpt(), 100)
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
    optimizer = factory(warmup_steps=0)(model, 100)["optimizer"]
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    decays = {id(parameter) for parameter in split_by_decay(model)[0]}
    for name, parameter in model.named_parameters():
        kept = before[name] * (1 - 0.1 * 0.5) if id(parameter) in decays else before[name]
        torch.testing.assert_close(parameter.detach(), kept - 0.1, atol=1e-6, rtol=1e-5)


TASK = PathStar(degree=2, path_length=3, num_nodes=6)


def muon(**changed):
    options = {**OPTIONS, "weight_decay": 0.0, "matrix_lr": 0.2, "momentum": 0.9}
    return factory(Muon, options, **changed)


def objective(kind=NextToken, width=8):
    torch.manual_seed(0)
    size = TASK.prompt_length + TASK.answer_length
    return kind(GPT(len(TASK.vocabulary), size, layers=1, width=width, heads=2), TASK)


@pytest.mark.parametrize("width", [8, len(TASK.vocabulary)])  # as wide as there are tokens, too
@pytest.mark.parametrize("kind", [TokenOrder, FutureSummary])
def test_muon_takes_the_matrices_inside_and_nothing_else(width, kind):
    module = objective(kind, width)
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    matrices, rest = muon()(module, 100)["optimizer"].parts
    taken = {names[id(p)] for group in matrices.param_groups for p in group["params"]}
    assert taken == {
        f"model.blocks.0.{part}.weight"
        for part in ("attention.input", "attention.output", "mlp.input", "mlp.output")
    }
    left = {names[id(p)] for group in rest.param_groups for p in group["params"]}
    assert left == set(names.values()) - taken  # the embedding and the output layer among them


def test_muon_takes_a_projection_as_wide_as_the_vocabulary():
    module = objective(partial(PlanTokens, latent_width=len(TASK.vocabulary)), len(TASK.vocabulary))
    matrices = muon()(module, 100)["optimizer"].parts[0]
    taken = {id(p) for group in matrices.param_groups for p in group["params"]}
    inner = (module.project, module.autoencoder.squeeze, module.autoencoder.widen)
    assert {id(layer.weight) for layer in inner} <= taken


def test_muon_s_first_update_is_orthogonal_and_as_large_as_adamw_s():
    module = objective()
    weight = module.model.blocks[0].attention.output.weight
    before = weight.detach().clone()
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)
    weight.grad = torch.linalg.qr(torch.randn(8, 8)).Q * torch.linspace(1, 3, 8)
    muon(warmup_steps=0).build(module).step()
    singular = torch.linalg.svdvals(before - weight.detach())
    # 0.2 sqrt(max(rows, columns)) times the rate, by five rough Newton-Schulz steps.
    expected = 0.2 * 0.2 * math.sqrt(8)
    assert singular.min() > 0.5 * expected
    assert singular.max() < 1.5 * expected


SHAPES = [(3, 7), (7, 3), (5, 5), (7, 3), (3, 7)]


def newton_schulz(matrix):
    """One matrix in float64, with the odd polynomial written as such."""
    x = matrix.double() / matrix.double().norm()
    for _ in range(5):
        x = 3.4445 * x - 4.7750 * x @ x.T @ x + 2.0315 * x @ x.T @ x @ x.T @ x
    return x


@pytest.mark.parametrize("shape", SHAPES[:3], ids=str)
def test_orthogonalised_matrices_equal_the_polynomial_of_each(shape):
    torch.manual_seed(0)
    matrices = torch.randn(4, *shape, dtype=torch.float64)
    matrices[2] *= 1000
    expected = torch.stack([newton_schulz(matrix) for matrix in matrices])
    torch.testing.assert_close(orthogonalise(matrices), expected)
    assert (orthogonalise(0 * matrices) == 0).all()


def test_orthogonal_momentum_updates_each_matrix_as_by_itself():
    torch.manual_seed(0)
    made = [torch.randn(shape, dtype=torch.float64) for shape in SHAPES]
    weights = [torch.nn.Parameter(weight.clone()) for weight in made]
    unused = torch.nn.Parameter(torch.ones(2, 2))  # has no gradient
    optimizer = OrthogonalMomentum([*weights, unused], lr=0.1, weight_decay=0.5, momentum=0.9)
    averages = [torch.zeros_like(weight) for weight in made]
    for _ in range(3):
        for index, weight in enumerate(weights):
            weight.grad = torch.randn_like(weight)
            averages[index] = 0.9 * averages[index] + 0.1 * weight.grad
            ahead = 0.1 * weight.grad + 0.9 * averages[index]
            made[index] = made[index] * (1 - 0.1 * 0.5)
            made[index] -= 0.1 * 0.2 * math.sqrt(max(weight.shape)) * newton_schulz(ahead)
        optimizer.step()
        for weight, expected in zip(weights, made, strict=True):
            torch.testing.assert_close(weight.detach(), expected)
    assert (unused == 1).all()


def test_orthogonal_momentum_is_pytorch_s_muon_but_for_its_precision():
    torch.manual_seed(0)
    ours, theirs = ([torch.nn.Parameter(torch.ones(shape)) for shape in SHAPES] for _ in range(2))
    options = {"lr": 0.1, "weight_decay": 0.5, "momentum": 0.9}
    optimizers = (
        OrthogonalMomentum(ours, **options),
        torch.optim.Muon(theirs, **options, adjust_lr_fn="match_rms_adamw"),
    )
    for _ in range(3):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for a, b in zip(ours, theirs, strict=True):
        assert (a - b).norm() < 0.01 * (a - 1).norm()  # bf16 keeps three digits


MODELS = [name for name in choices("model") if name != "pretrained"]


@pytest.mark.parametrize(
    ("model", "optimizer"),
    [
        *((name, "muon") for name in MODELS),
        *(("gpt", name) for name in choices("optimizer") if name != "muon"),
    ],
)
def test_an_update_asks_the_device_for_no_value(model, optimizer):
    """Backward, clipping and step, as `test_every_objective.py` has it of the losses."""
    words = ["experiment=smoke", "hardware=cpu", f"model={model}", f"optimizer={optimizer}"]
    config = Composer(words).cells()[0].config
    batch = rows(build(config).task)  # not under the mode: `Draws` keeps tensors from call to call
    with FakeTensorMode(allow_non_fake_inputs=True):
        parts = build(config)
        made = parts.objective.make_optimizer(parts.objective, 100)["optimizer"]
        parts.objective.loss(batch).backward()
        torch.nn.utils.clip_grad_norm_(parts.objective.parameters(), 1.0)
        made.step()
