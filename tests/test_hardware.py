"""Choices that `auto` in `hardware` makes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import STAR, forethought, gpt, tiny
from torch import nn

from forethought.hardware import Hardware, available_cores, fastest_threads, memory
from forethought.launchers.pool import slots
from forethought.models import compiled_block
from forethought.models.gpt import GPTBlock
from forethought.objectives import MultiToken
from forethought.results import read_curves, read_results
from forethought.training import build, run_cell


def fit(tokens=1000, steps=1000, width=64, **given):
    objective = nn.Module()
    objective.model = nn.Linear(1000, 1000, bias=False)  # a million parameters
    objective.model.width = width
    return Hardware(**{"accelerator": "cpu", **given}).fitted(objective, tokens, 1, steps)


@pytest.fixture(autouse=True)
def cores(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "6")


def test_a_model_without_a_width_is_not_compiled():
    objective = nn.Module()
    objective.model = nn.Linear(3, 3)
    assert not Hardware(accelerator="cpu", threads=1).fitted(objective, 10**9, 1, 10**9)[0].compile


@pytest.fixture(autouse=True)
def cpu(monkeypatch):
    def pretend(**capabilities):
        monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"architecture": "x86_64", **capabilities})

    pretend(avx512_f=True)
    return pretend


def test_a_long_run_is_compiled():
    assert fit(tokens=10_000, steps=1000)[0].compile  # 6e13 FLOP
    assert not fit(tokens=1000, steps=1000)[0].compile
    assert not fit(tokens=10_000, steps=1000, width=32)[0].compile


def test_nothing_is_compiled_where_it_gains_nothing(cpu):
    cpu(avx512_f=False)
    fitted, why = fit(tokens=10_000)
    assert not fitted.compile
    assert why.startswith("not compiled (6e+13 FLOP in all, no AVX-512)")
    cpu(architecture="arm64")  # not measured
    assert fit(tokens=10_000)[0].compile


def test_heavy_steps_take_the_cores_that_are_this_process_s_own(monkeypatch):
    assert fit(tokens=1000)[0].threads == 6  # 6e9 FLOP a step
    assert fit(tokens=500)[0].threads == 1
    assert fit(tokens=1000, devices=2)[0].threads == 3
    assert fit(tokens=1000, devices=8)[0].threads == 1
    assert fit(tokens=1000, threads=2)[0].threads == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "4,2")  # the second is for parallel regions within one
    assert fit(tokens=1000)[0].threads == 4


OPENMP = ("OMP_WAIT_POLICY", "KMP_BLOCKTIME")
CONTAINERS = {
    "version 2, in a container": ("0::/", {"cpu.max": "200000 100000\n"}, 2),
    "version 2, of a group around it": ("0::/a/b", {"a/cpu.max": "150000 100000", "a/b/cpu.max": "max 1"}, 2),
    "version 2, the least of both": ("0::/a/b", {"a/cpu.max": "900 300", "a/b/cpu.max": "10 100"}, 1),
    "version 2, no quota": ("0::/a", {"a/cpu.max": "max 100000"}, 64),
    "version 1": (
        "3:cpu,cpuacct:/slurm\n2:memory:/",
        {"cpu,cpuacct/slurm/cpu.cfs_quota_us": "300000", "cpu,cpuacct/slurm/cpu.cfs_period_us": "100000"},
        3,
    ),
    "version 1, in a container": (
        "3:cpu,cpuacct:/docker/1f",
        {"cpu,cpuacct/cpu.cfs_quota_us": "50000\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"},
        1,
    ),
    "version 1, no quota": (
        "3:cpu:/",
        {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"},
        64,
    ),
    "unreadable": ("no groups", {"cpu.max": "many"}, 64),
}


@pytest.fixture
def large_machine(monkeypatch):
    """A machine of 64 cores whose environment says nothing."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(64), raising=False)


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_quota_bounds_the_cores(tmp_path, large_machine, container):
    groups, files, cores = CONTAINERS[container]
    for name, text in {
        "proc/self/cgroup": groups,
        **{f"sys/fs/cgroup/{n}": t for n, t in files.items()},
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert available_cores(tmp_path) == cores


@pytest.mark.parametrize(("text", "cores"), [("16", 16), ("", 64), ("0", 64), ("16(x2)", 64), ("100", 64)])
def test_slurm_and_affinity_bound_the_cores(tmp_path, large_machine, monkeypatch, text, cores):
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", text)
    assert available_cores(tmp_path) == cores
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(4))
    assert available_cores(tmp_path) == 4


def test_without_affinity_all_cores_count(tmp_path, large_machine, monkeypatch):
    """macOS has no `os.sched_getaffinity`."""
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert available_cores(tmp_path) == 8
    assert len(slots(tiny(tmp_path / "run", "hardware=cpu"), None)) == available_cores()
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_cores(tmp_path) == 1


def test_the_pool_shares_the_cores_and_leaves_the_user_s_threads(tmp_path, large_machine, monkeypatch):
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "6")
    cell = tiny(tmp_path / "run", "hardware=cpu")
    assert len(slots(cell, None)) == 6
    assert len(slots(tiny(tmp_path / "run", "hardware=cpu", "hardware.threads=3"), None)) == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    for workers, threads, idle in ((1, 2, True), (2, 2, True), (4, 1, False), (9, 1, False)):
        (slot, *_) = shares = slots(cell, workers)
        assert shares == [slot] * workers
        assert "OMP_NUM_THREADS" not in slot
        with monkeypatch.context() as worker:
            for name, value in slot.items():
                worker.setenv(name, value)
            assert fit(tokens=1000)[0].threads == threads
            assert build(cell.config).data.draw_ahead is idle
            assert not Hardware(accelerator="cpu", devices=6).has_idle_core


@pytest.mark.parametrize(
    ("seconds", "threads"),
    [
        ({8: 0.02, 4: 0.03, 2: 0.05, 1: 0.1}, 8),  # idle
        ({8: 0.50, 4: 0.30, 2: 0.055, 1: 0.1}, 2),  # others work on six of the cores
        ({8: 5.0, 4: 3.0, 2: 2.0, 1: 0.38}, 1),
        ({8: 0.09, 4: 0.09, 2: 0.09, 1: 0.1}, 1),  # more threads for a gain that is noise
    ],
)
def test_threads_are_those_that_are_fastest_now(seconds, threads):
    assert fastest_threads(8, seconds.__getitem__) == threads


def test_threads_are_measured_anew_after_a_minute(large_machine, monkeypatch):
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "2")
    taken = {1: 0.1, 2: 0.2}
    monkeypatch.setattr("forethought.hardware.threads._seconds_of_work", taken.__getitem__)
    monkeypatch.setattr("time.monotonic", lambda: 1000.0)
    assert fit(tokens=1000)[0].threads == 1
    taken[2] = 0.05  # another process has ended
    assert fit(tokens=1000)[0].threads == 1
    monkeypatch.setattr("time.monotonic", lambda: 1061.0)
    assert fit(tokens=1000)[0].threads == 2


def test_without_a_user_s_number_threads_are_measured(large_machine, monkeypatch):
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "2")
    assert fit(tokens=1000)[0].threads in (1, 2)
    assert fit(tokens=1000, devices=2)[0].threads == 1


@pytest.mark.parametrize("given", [{}, {"OMP_WAIT_POLICY": "active", "KMP_BLOCKTIME": "200"}])
def test_waiting_threads_sleep_unless_the_user_says_otherwise(given):
    """OpenMP reads its variables when torch is imported, so they are set before that."""
    code = "import sys, os, forethought; print(*map(os.environ.get, sys.argv[1:]), 'torch' in sys.modules)"
    others = {name: value for name, value in os.environ.items() if name not in OPENMP}
    done = subprocess.run(
        [sys.executable, "-c", code, *OPENMP], env=others | given, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [*(given.values() or ("passive", "0")), "False"]


def test_given_values_stay_as_they_are():
    given = {"compile": True, "threads": 2}
    fitted, why = fit(tokens=10_000, **given)
    assert {name: getattr(fitted, name) for name in given} == given
    assert why == ""
    assert fit(tokens=10_000, compile=False)[0].compile is False


def test_every_choice_says_why():
    assert fit(width=32)[1] == "not compiled (6e+12 FLOP in all), 6 thread(s) (6e+09 FLOP a step)"


def small(**changed):
    """An objective with blocks that are faster in C++, three of its own among them."""
    return MultiToken(gpt(**{"width": 32, **changed}), STAR)


def test_small_blocks_are_computed_in_cpp(monkeypatch):
    monkeypatch.setattr(compiled_block, "compile_error", lambda: None)
    auto = Hardware(accelerator="cpu")
    fitted, why = auto.fitted(small(), rows=1000, length=10, steps=10)
    assert (fitted.compile, fitted.threads, fitted.block_threads) == ("blocks", 1, 6)
    assert why == "blocks in C++ (2e+10 FLOP in all), 6 thread(s) (2e+09 FLOP a step)"
    fitted, _ = auto.fitted(small(), rows=10_000, length=10, steps=10)
    assert (fitted.threads, fitted.block_threads) == (6, 6)  # as without blocks
    assert auto.fitted(small(), 1, 10, 10)[0].block_threads == 1
    for objective, length, precision in (
        (small(positions="rotary"), 10, "fp32"),
        (small(), 10, "bf16"),
        (small(), 1000, "fp32"),
    ):
        fitted, why = auto.fitted(objective, 1000, length, 10, precision)
        assert not fitted.compile
        assert why.startswith("not compiled")
    assert auto.fitted(small(width=64), 10**6, 10, 10**4)[0].compile == "blocks"  # however long the run
    assert Hardware(accelerator="cpu", compile=False).fitted(small(), 1000, 10, 10)[0].compile is False
    given, _ = Hardware(accelerator="cpu", threads=2).fitted(small(), 1000, 10, 10)
    assert (given.threads, given.block_threads) == (2, 2)


def test_blocks_that_cannot_be_in_cpp_say_why(monkeypatch):
    given = Hardware(accelerator="cpu", compile="blocks", threads=1)
    fitted, why = given.fitted(small(positions="rotary"), 1000, 10, 10)
    assert (fitted.compile, why) == (False, "blocks not in C++ (no small GPT block in fp32 on a CPU)")
    monkeypatch.setattr(compiled_block, "compile_error", lambda: "no compiler")
    for hardware in (given, Hardware(accelerator="cpu")):
        fitted, why = hardware.fitted(small(), 1000, 10, 10)
        assert fitted.compile is False
        assert "blocks not in C++ (no compiler)" in why
    fitted, why = Hardware(accelerator="cpu").fitted(small(width=64), 10**6, 10, 10**4)
    assert fitted.compile is True
    assert why.startswith("compiled (6e+16 FLOP in all), blocks not in C++ (no compiler)")


def test_blocks_of_the_objective_are_set_up_too():
    before, objective = torch.get_num_threads(), small()
    hardware = Hardware(accelerator="cpu", compile="blocks", threads=2)
    hardware.block_threads = 3
    try:
        hardware.set_up(objective)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    blocks = [part for part in objective.modules() if isinstance(part, GPTBlock)]
    assert [block.threads for block in blocks] == [3] * len(blocks)
    assert len(blocks) > len(objective.model.blocks)


@pytest.mark.skipif(compiled_block.compile_error() is not None, reason="needs a C++ compiler")
def test_a_run_trains_with_blocks_in_cpp(workplace, monkeypatch):
    calls, compute = [], compiled_block.compute
    monkeypatch.setattr(compiled_block, "compute", lambda *given: calls.append(given) or compute(*given))
    results = run_cell(tiny("run", "hardware.threads=1"))
    assert results.device.endswith("compiled (blocks)")
    assert len(calls) >= results.steps


@pytest.mark.slow
@pytest.mark.parametrize(
    ("compiled", "precision", "tolerance"),
    [("true", "fp32", 1e-4), ("true", "bf16", 1e-2), ("blocks", "fp32", 1e-4)],
)
def test_a_compiled_model_trains_as_a_plain_one(workplace, compiled, precision, tolerance):
    """In processes without the checks of shapes that tests have, which the compiler cannot follow."""
    curves = []
    for how in (compiled, "false"):
        words = ["hardware=cpu", f"precision={precision}", f"hardware.compile={how}"]
        done = forethought(
            "train", "experiment=smoke", "model.width=64", *words, f"hydra.run.dir=compiled-{how}"
        )
        assert done.returncode == 0, done.stderr
        device = read_results(Path(f"compiled-{how}")).device
        assert ("compiled" in device) == (how != "false")
        assert ("(blocks)" in device) == (how == "blocks")
        curves.append(read_curves(Path(f"compiled-{how}") / "metrics.csv"))
    assert len(curves[0]) == 4
    for one, other in zip(*curves, strict=True):
        assert one == pytest.approx(other, abs=tolerance, nan_ok=True)


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc can be told to keep memory")
def test_freed_memory_is_kept():
    """In a process of its own: a setting of the C library outlives the test."""
    code = """
import resource, runpy, sys
keep_freed_memory = runpy.run_path(sys.argv[1])["keep_freed_memory"]
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        parts = [bytearray(2**22) for _ in range(8)]
        del parts
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
first = faults()
keep_freed_memory()
faults()
print(first, faults())
"""
    command = [sys.executable, "-c", code, memory.__file__]  # the package would import torch first
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert after < before / 5
