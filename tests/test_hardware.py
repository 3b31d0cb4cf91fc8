"""What `auto` in `hardware` stands for."""

from pathlib import Path

import pytest
import torch
from helpers import forethought
from torch import nn

from forethought.hardware import Hardware
from forethought.results import read_curves


def fit(tokens=1000, steps=1000, width=64, replicas=1, **given):
    values = {"accelerator": "cpu", "devices": 1, "precision": "auto", "compile": "auto", "threads": "auto"}
    model = nn.Linear(1000, 1000, bias=False)  # a million parameters
    model.width = width
    return Hardware(**{**values, **given}).fitted(model, tokens, steps, replicas)


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    monkeypatch.setenv("OMP_NUM_THREADS", "6")


def test_precision_is_bf16_where_amx_meets_a_wide_model(monkeypatch):
    assert fit(width=64)[0].precision == "bf16"
    assert fit(width=32)[0].precision == "fp32"
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    fitted, why = fit(width=64)
    assert fitted.precision == "fp32"
    assert "no AMX" in why


def test_a_model_without_a_width_is_left_alone():
    values = {"accelerator": "cpu", "devices": 1, "precision": "auto", "compile": "auto", "threads": 1}
    fitted, _ = Hardware(**values).fitted(nn.Linear(3, 3), 10**9, 10**9)
    assert (fitted.precision, fitted.compile) == ("fp32", False)


def test_a_long_run_is_compiled():
    assert fit(tokens=10_000, steps=1000)[0].compile  # 6e13 FLOP
    assert not fit(tokens=1000, steps=1000)[0].compile
    assert not fit(tokens=10_000, steps=1000, width=32)[0].compile


def test_heavy_steps_take_the_cores_that_are_this_process_s_own(monkeypatch):
    assert fit(tokens=1000)[0].threads == 6  # 6e9 FLOP a step
    assert fit(tokens=500)[0].threads == 1
    assert fit(tokens=1000, devices=2)[0].threads == 3
    assert fit(tokens=1000, devices=8)[0].threads == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "4,2")  # the second is for parallel regions within one
    assert fit(tokens=1000)[0].threads == 4


def test_replicas_count_as_arithmetic_and_are_not_compiled():
    fitted, why = fit(tokens=500, steps=10**6, replicas=2)
    assert (fitted.precision, fitted.compile, fitted.threads) == ("bf16", False, 6)
    assert "not compiled (replicas=2)" in why


def test_what_is_given_stays_as_it_is():
    given = {"precision": "fp32", "compile": True, "threads": 2}
    fitted, why = fit(tokens=10_000, **given)
    assert {name: getattr(fitted, name) for name in given} == given
    assert why == ""
    assert fit(tokens=10_000, compile=False)[0].compile is False


def test_every_choice_says_why():
    assert fit(width=32)[1] == (
        "fp32 (AMX, model.width=32), not compiled (6e+12 FLOP in all), 6 thread(s) (6e+09 FLOP a step)"
    )


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("bf16", 1e-2)])
def test_a_compiled_model_trains_as_a_plain_one(workplace, precision, tolerance):
    """In processes without the checks of shapes that tests have, which the compiler cannot follow."""
    curves = []
    for compiled in ("true", "false"):
        words = ["hardware=cpu", f"hardware.precision={precision}", f"hardware.compile={compiled}"]
        done = forethought(
            "train", "experiment=smoke", "model.width=64", *words, f"hydra.run.dir=compiled-{compiled}"
        )
        assert done.returncode == 0, done.stderr
        curves.append(read_curves(Path(f"compiled-{compiled}") / "metrics.csv"))
    assert len(curves[0]) == 4
    for one, other in zip(*curves, strict=True):
        assert one == pytest.approx(other, abs=tolerance, nan_ok=True)
