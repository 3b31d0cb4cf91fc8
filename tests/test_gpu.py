"""On a real CUDA GPU: every choice trains as on a CPU, resumes, shares the GPU, and compiles."""

import importlib.util
import json
import math
from pathlib import Path

import mamba_kernels
import pytest
import torch
from helpers import choices, forethought, tasks
from test_mamba_kernels import GOLDEN, SIZES, SIZES_2, assert_equal
from test_state_space import both, model, tokens

from forethought.cli.main import run
from forethought.config import Composer
from forethought.models import Mamba, Mamba2
from forethought.objectives import Objective
from forethought.results import read_curves, read_results
from forethought.training import run_cell

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
needs_kernels = pytest.mark.skipif(not importlib.util.find_spec("mamba_ssm"), reason="needs mamba-ssm")
kernels_of = pytest.mark.parametrize("backend", ["torch", pytest.param("mamba_ssm", marks=needs_kernels)])

TINY = ["experiment=smoke", "model.layers=1", "model.width=16"]
TINY += ["evaluation.validation_samples=8", "evaluation.test_samples=8"]
MODELS = [name for name in choices("model") if name != "pretrained"]
every = pytest.mark.parametrize(
    "words",
    [
        *(f"objective={objective}" for objective in choices("objective")),
        "objective=policy_gradient objective.refresh=2",
        *(f"model={model}" for model in MODELS),
        "model.mask=prefix model.positions=rotary model.conv=input",
        "optimizer=muon",
        *(f"task={task}" for task in tasks()),
    ],
)


def train(folder, *words):
    """Return the curves of a finished run."""
    (cell,) = Composer([*TINY, *words]).cells()
    assert run_cell(cell.at(Path(folder))).status == "finished"
    return read_curves(Path(folder) / "metrics.csv")


def assert_close(curves, expected, tolerance):
    assert len(curves) == len(expected) > 0
    for mine, other in zip(curves, expected, strict=True):
        assert mine == pytest.approx(other, abs=tolerance, rel=tolerance, nan_ok=True)


@every
def test_a_run_computes_what_the_cpu_does(workplace, monkeypatch, words):
    """Losses that draw from PyTorch's generator draw other numbers on a GPU: they are only finite."""
    draws, step = [], Objective.training_step

    def watched(*given):
        before = torch.get_rng_state()
        loss = step(*given)
        draws.append(not torch.equal(torch.get_rng_state(), before))
        return loss

    monkeypatch.setattr(Objective, "training_step", watched)
    here = train("cpu", "hardware=cpu", *words.split())
    is_random = any(draws)  # on the CPU: the losses of a GPU draw from its own generator
    there = train("gpu", "hardware=gpu", *words.split())
    if not is_random:
        assert_close(there, here, 2e-3)
    assert all(math.isfinite(curve["train/loss"]) for curve in there)
    assert torch.cuda.get_device_name() in read_results(Path("gpu")).device


@every
def test_bf16_stays_near_fp32(workplace, words):
    curves = [
        train(precision, "hardware=gpu", f"precision={precision}", *words.split())[-1]
        for precision in ("fp32", "bf16")
    ]
    losses = [curve["train/loss"] for curve in curves]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


@pytest.mark.parametrize("how", ["true", "reduce-overhead"])
@pytest.mark.parametrize(
    "words", ["", "objective=masked_diffusion", "objective=multi_token", "model=mamba2", "model=looped_gpt"]
)
def test_compiled_runs_train_as_eager_ones(workplace, words, how):
    losses = []
    for folder, value in (("eager", "false"), ("compiled", how)):
        # In a process without the tests' type checker, which Dynamo cannot trace.
        words_of_run = [*TINY, "hardware=gpu", "precision=bf16", *words.split(), f"hardware.compile={value}"]
        done = forethought("train", *words_of_run, f"hydra.run.dir={folder}")
        assert done.returncode == 0, done.stderr
        assert "torch.compile fails here" not in done.stdout
        losses.append([curve["train/loss"] for curve in read_curves(Path(folder) / "metrics.csv")])
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    assert losses[0]


@pytest.mark.parametrize("word", ["seed=0", "objective=multi_token", "model=lstm", "optimizer=muon"])
def test_a_longer_run_goes_on_exactly(workplace, word):
    words = [*TINY, "hardware=gpu", word]
    assert run(["train", *words, "max_steps=20", "hydra.run.dir=short"]) == 0
    assert run(["resume", "short", "max_steps=40"]) == 0
    (longer,) = Path().glob("short-*")
    whole = train("whole", "hardware=gpu", word, "max_steps=40")
    assert_close(read_curves(longer / "metrics.csv"), whole, 0)


def test_cells_share_a_gpu(workplace):
    words = [*TINY, "hardware=gpu", "sweep=shared", "seed=range(4)", "hydra.launcher.workers=2"]
    assert run(["train", "-m", *words]) == 0
    found = [read_results(path.parent) for path in Path("multirun/shared").glob("*/results.json")]
    assert [results.status for results in found] == ["finished"] * 4


def test_a_full_gpu_says_so_in_one_line(workplace, capsys):
    too_much = ["model.width=512", "batch_size=3000000"]
    assert run(["train", *TINY, *too_much, "hardware=gpu", "hydra.run.dir=run"]) == 1
    assert "out of memory" in capsys.readouterr().err


def loss_and_gradients(kind, where, dtype, backend):
    net = model(kind, backend=backend).to(where, torch.float32 if where == "cuda" else torch.float64)
    rows = tokens(16).to(where)
    with torch.autocast(where, dtype, enabled=dtype is not None):
        logits = net.logits(net(rows))
    weight = torch.linspace(-1, 1, logits.numel(), dtype=torch.float64).view_as(logits).to(logits.device)
    (logits.double() * weight).sum().backward()
    return [logits.double().cpu(), *(parameter.grad.double().cpu() for parameter in net.parameters())]


TF32 = 5e-3
"""Share by which a sum of products in TF32 may be off. Mamba-2's kernel computes in it, also in fp32."""


@both
@kernels_of
@pytest.mark.parametrize(("dtype", "tolerance"), [(None, 1e-4), (torch.bfloat16, 1e-1)], ids=str)
def test_mamba_computes_what_float64_does_on_a_cpu(kind, backend, dtype, tolerance):
    """Outputs and all gradients, each as a share of its norm."""
    if (kind, backend, dtype) == (Mamba2, "mamba_ssm", None):
        tolerance = TF32
    expected = loss_and_gradients(kind, "cpu", None, "torch")
    found = loss_and_gradients(kind, "cuda", dtype, backend)
    errors = [
        ((mine - other).norm() / other.norm()).item() for mine, other in zip(found, expected, strict=True)
    ]
    assert max(errors) <= tolerance


@needs_kernels
@pytest.mark.parametrize(("name", "tolerance"), [("Mamba", 1e-4), ("Mamba2", TF32)])
def test_the_cuda_kernels_compute_what_is_recorded(name, tolerance):
    """The record is that of Triton's interpreter on a CPU (`mamba_kernels.py`)."""
    kind, options = {"Mamba": (Mamba, {}), "Mamba2": (Mamba2, SIZES_2)}[name]
    length = mamba_kernels.READ + mamba_kernels.STEPS
    net = kind(mamba_kernels.V, length, backend="mamba_ssm", **SIZES, **options)
    mamba_kernels.set_weights(net)
    net.cuda()
    cache = net.init_cache(2, length)
    found = mamba_kernels.logits_and_gradients(
        net,
        lambda rows: net.logits(net(rows.cuda())).cpu(),
        lambda piece: net.logits(net(piece.cuda(), 0, cache)).cpu(),
    )
    found = {key: tensor.cpu() for key, tensor in found.items()}
    assert_equal(found, json.loads(GOLDEN.read_text())[name], tolerance)


@needs_kernels
@pytest.mark.parametrize("name", ["mamba", "mamba2"])
def test_the_kernels_train_as_plain_pytorch(workplace, name):
    words = ["hardware=gpu", f"model={name}"]
    curves = [train(backend, *words, f"model.backend={backend}") for backend in ("torch", "mamba_ssm")]
    assert_close(*curves, 2e-3)
