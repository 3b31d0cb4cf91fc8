"""Choices that `auto` in `hardware` makes."""

from pathlib import Path

import pytest
from helpers import forethought
from torch import nn

from forethought.hardware import Hardware
from forethought.results import read_curves


def fit(tokens=1000, steps=1000, width=64, **given):
    model = nn.Linear(1000, 1000, bias=False)  # a million parameters
    model.width = width
    return Hardware(**{"accelerator": "cpu", **given}).fitted(model, tokens, steps)


@pytest.fixture(autouse=True)
def cores(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "6")


def test_a_model_without_a_width_is_not_compiled():
    assert not Hardware(accelerator="cpu", threads=1).fitted(nn.Linear(3, 3), 10**9, 10**9)[0].compile


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


def test_given_values_stay_as_they_are():
    given = {"compile": True, "threads": 2}
    fitted, why = fit(tokens=10_000, **given)
    assert {name: getattr(fitted, name) for name in given} == given
    assert why == ""
    assert fit(tokens=10_000, compile=False)[0].compile is False


def test_every_choice_says_why():
    assert fit(width=32)[1] == "not compiled (6e+12 FLOP in all), 6 thread(s) (6e+09 FLOP a step)"


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("bf16", 1e-2)])
def test_a_compiled_model_trains_as_a_plain_one(workplace, precision, tolerance):
    """In processes without the checks of shapes that tests have, which the compiler cannot follow."""
    curves = []
    for compiled in ("true", "false"):
        words = ["hardware=cpu", f"precision={precision}", f"hardware.compile={compiled}"]
        done = forethought(
            "train", "experiment=smoke", "model.width=64", *words, f"hydra.run.dir=compiled-{compiled}"
        )
        assert done.returncode == 0, done.stderr
        curves.append(read_curves(Path(f"compiled-{compiled}") / "metrics.csv"))
    assert len(curves[0]) == 4
    for one, other in zip(*curves, strict=True):
        assert one == pytest.approx(other, abs=tolerance, nan_ok=True)
