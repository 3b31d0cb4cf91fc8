"""The benchmarks run to their end, at sizes whose figures mean nothing."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def test_every_benchmark_has_its_block_in_the_page(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    from bench import PAGE, PARTS

    blocks = re.findall(r"<!-- bench (\w+) -->\n.*?<!-- end -->", PAGE.read_text(), re.DOTALL)
    assert sorted(blocks) == sorted(PARTS)


@pytest.mark.slow
def test_every_benchmark_runs(workplace, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    from bench import PARTS

    command = [sys.executable, str(BENCHMARKS / "bench.py"), "--tiny", *PARTS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for row in ("1 × 16", "1 × 16 | eager", "with cache", "`forethought --help`", "`lstm`, `next_token`"):
        assert f"| {row} |" in done.stdout
