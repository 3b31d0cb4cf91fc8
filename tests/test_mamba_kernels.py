"""Our Mamba and Mamba-2 against what mamba-ssm's own kernels computed (`mamba_kernels.py`)."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import mamba_kernels
import pytest
import torch
from mamba_kernels import CHUNK, READ, SIZES, SIZES_2, STEPS, V

from forethought.models import Mamba, Mamba2
from forethought.models.mamba2 import ssd

GOLDEN = Path(__file__).parent / "data" / "mamba_ssm.json"


def run_ssd():
    inputs = [tensor.detach().double().requires_grad_() for tensor in mamba_kernels.ssd_inputs()]
    return mamba_kernels.output_and_gradients(ssd(*inputs, CHUNK)[0], inputs)


def run_model(kind, **options):
    net = kind(V, READ + STEPS, **SIZES, **options)
    mamba_kernels.set_weights(net)
    net.double()
    cache = net.init_cache(2, READ + STEPS)
    return mamba_kernels.logits_and_gradients(
        net, lambda whole: net.logits(net(whole)), lambda piece: net.logits(net(piece, 0, cache))
    )


CASES = {"ssd": run_ssd, "Mamba": lambda: run_model(Mamba), "Mamba2": lambda: run_model(Mamba2, **SIZES_2)}


def assert_equal(found, text, tolerance):
    """Compare with the record of a case, each tensor up to a share of its largest number."""
    expected = {name: mamba_kernels.decode(numbers) for name, numbers in text.items()}
    assert found.keys() == expected.keys()
    for name, numbers in expected.items():
        torch.testing.assert_close(
            found[name].detach().flatten().float(),
            numbers,
            atol=tolerance * numbers.abs().max().item(),
            rtol=0,
            msg=lambda text, name=name: f"{name}: {text}",
        )


@pytest.mark.parametrize("case", CASES)
def test_our_scans_and_models_equal_mamba_ssm_s(case):
    """Outputs, gradients, names of parameters, and decoding with the cache, up to float32's rounding.

    Ours are computed in float64, so that the difference is the kernels' rounding on every machine.
    """
    assert_equal(CASES[case](), json.loads(GOLDEN.read_text())[case], tolerance=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("triton", "mamba_ssm", "transformers")),
    reason="needs triton, mamba-ssm and transformers",
)
def test_the_kernels_still_compute_what_is_recorded():
    command = [sys.executable, mamba_kernels.__file__]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    found = json.loads(process.stdout)
    for case, expected in json.loads(GOLDEN.read_text()).items():
        decoded = {name: mamba_kernels.decode(text) for name, text in found[case].items()}
        assert_equal(decoded, expected, tolerance=1e-6)
