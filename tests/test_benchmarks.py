"""The benchmark for a GPU runs to its end where there is none, so that it will where there is one."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.slow
def test_the_gpu_benchmark_runs():
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--tiny"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for loop in ("plain", "eager", "compiled", "sampler alone"):
        assert f"| {loop} |" in done.stdout
