"""DDP: two gloo processes on the CPU train what one process trains."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import TINY, last_checkpoint, left_over, tiny

from forethought.results import read_results
from forethought.training import run_cell

TRAIN = ["-m", "forethought", "train"]
TORCHRUN = ["-m", "torch.distributed.run", "--nproc-per-node=2"]
WAYS = {
    "a run": [*TRAIN, "hydra.run.dir=two/run"],
    "a cell of a sweep": [*TRAIN, "-m", "seed=0", "hydra.sweep.dir=two"],
    "torchrun": [*TORCHRUN, *TRAIN, "hydra.run.dir=two/run"],
}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_two_processes_train_what_one_trains(workplace, monkeypatch, main_port, way):
    """Each reads half of every batch and half of the validation rows."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    monkeypatch.setenv("PL_GLOBAL_SEED", "nonsense")  # Lightning's DDP reads it
    monkeypatch.setenv("PET_MASTER_PORT", str(main_port))  # torchrun's variable
    words = [*TINY, "hardware=cpu", "objective=multi_token"]
    rows = "callbacks={rows:{_target_:faulty.Rows}}"
    process = subprocess.Popen(
        [sys.executable, *WAYS[way], *words, "hardware.devices=2", rows],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output.decode()
    one = run_cell(tiny("one", *words))
    (folder,) = (path.parent for path in Path("two").glob("*/results.json"))
    two = read_results(folder)
    assert (two.status, two.cell, two.samples_seen) == ("finished", one.cell, one.samples_seen)
    assert two.metrics == pytest.approx(one.metrics, abs=1e-4)
    for name, tensor in last_checkpoint("one")["state_dict"].items():
        torch.testing.assert_close(tensor, last_checkpoint(folder)["state_dict"][name], atol=1e-6, rtol=1e-4)
    assert [path.read_text() for path in Path().glob("rows-*")] == ["32 of 2"] * 2
    assert left_over(process.pid) == []


@pytest.mark.slow
def test_a_ddp_run_leaves_nothing_to_the_next_one_in_its_process(workplace):
    """Lightning's variables and process group would let it wait for ranks that have ended."""
    words = [*TINY, "-m", "seed=0,1", "sweep=s", "hydra/launcher=basic", "hardware=cpu", "hardware.devices=2"]
    process = subprocess.run([sys.executable, *TRAIN, *words], capture_output=True, timeout=120)
    assert process.returncode == 0, process.stderr.decode()
    states = [read_results(path.parent).status for path in Path("multirun/s").glob("*/results.json")]
    assert states == ["finished"] * 2


def test_a_run_of_one_process_under_ddp_leaves_no_variable(workplace):
    before = dict(os.environ)
    run_cell(tiny("run", "hardware=cpu", "trainer.strategy=ddp"))
    assert {name for name in os.environ.keys() ^ before.keys() if "COMMIT" not in name} == set()
    assert not torch.distributed.is_initialized()
