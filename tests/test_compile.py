"""`hardware.compile` on machines that cannot compile."""

from pathlib import Path

import pytest
from helpers import TINY, forethought

from forethought.results import read_results


@pytest.mark.slow
@pytest.mark.parametrize(
    "variables",
    [{"PATH": "/nowhere", "CXX": "no-compiler"}, {"TORCHINDUCTOR_CACHE_DIR": "/proc/self"}],
    ids=["no compiler", "no room"],
)
def test_a_machine_that_cannot_compile_does_not(workplace, monkeypatch, variables):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(workplace / "cache"))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    done = forethought("train", *TINY, "hydra.run.dir=run", "hardware.compile=true")
    assert done.returncode == 0, done.stderr
    assert "not compiled, as torch.compile fails here (" in done.stdout
    assert "not compiled, as torch.compile fails here (" in Path("run/run.log").read_text()
    assert "compiled" not in read_results(Path("run")).device
