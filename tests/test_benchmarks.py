"""The benchmarks run to their end, at sizes whose figures mean nothing."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
ROWS = {
    "generation": "with cache",
    "gpu": "1 × 16 | eager",
    "models": "`lstm`, `next_token`",
    "peers": "1 × 16",
    "startup": "`forethought --help`",
}


def test_every_benchmark_has_its_block_in_the_page(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    from bench import PAGE, PARTS

    blocks = re.findall(r"<!-- bench (\w+) -->\n.*?<!-- end -->", PAGE.read_text(), re.DOTALL)
    assert sorted(blocks) == sorted(PARTS)
    assert ROWS.keys() <= PARTS.keys()


@pytest.mark.slow
@pytest.mark.parametrize("part", range(3))
def test_every_benchmark_runs(workplace, monkeypatch, part):
    """In three tests, as all of them take minutes."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    from bench import PARTS

    names = [*PARTS][part::3]
    command = [sys.executable, str(BENCHMARKS / "bench.py"), "--tiny", *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in ROWS.keys() & names:
        assert f"| {ROWS[name]} |" in done.stdout
