"""The cost of a sweep before it runs: FLOPs, time on this machine and on a GPU."""

import pytest
from helpers import TINY

from forethought.cli.cost import describe_cost
from forethought.config import Composer
from forethought.training import build, cost, count_flops, probe
from forethought.training.cost import SweepCost, count_sweep


@pytest.fixture
def compose():
    def compose(*words):
        return Composer([*TINY, *words], True).cells()

    return compose


def flops_of(cell):
    run = build(cell.config)
    return count_flops(run.objective, run.data.data.batch(0)) * cell.config["max_steps"]


@pytest.fixture
def counted(monkeypatch):
    """Return the list of the configs that were counted; a row takes as many operations as its degree."""
    configs = []

    def count(config):
        configs.append(config)
        return float(config["task"]["degree"])

    monkeypatch.setattr(cost, "_flops_of_row", count)
    return configs


def test_a_sweep_costs_what_its_runs_will_record(compose):
    cells = compose("objective=next_token,multi_token", "max_steps=3", "seed=0,1", "batch_size=6")
    counted = count_sweep(cells, at_most=60)
    assert counted.flops == pytest.approx([flops_of(cell) for cell in cells], rel=1e-9)
    assert counted.counted == 4


def test_rows_and_steps_are_multiplied_and_kinds_counted_once(compose, counted):
    words = ["max_steps=10,20", "batch_size=16", "seed=0,1", "task.degree=2,3", "optimizer.lr=1e-3,1e-4"]
    cells = compose(*words, "trainer.accumulate_grad_batches=3")
    flops = count_sweep(cells, at_most=60).flops
    assert flops == [3 * 16 * cell.config["max_steps"] * cell.config["task"]["degree"] for cell in cells]
    assert len(counted) == 2
    (few,) = compose("task.train_samples=5", "batch_size=16", "max_steps=10")
    assert count_sweep([few], at_most=60).flops == [5 * 10 * 2]


def test_after_the_time_limit_the_mean_of_a_row_stands_for_the_rest(compose, counted):
    cells = compose("max_steps=10,20", "task.degree=2,3,4", "batch_size=8")
    measured = count_sweep(cells, at_most=0)
    assert measured.counted == 2
    (config,) = counted
    assert measured.flops == [config["task"]["degree"] * 8 * cell.config["max_steps"] for cell in cells]


def test_a_cheap_step_is_probed_whole_and_an_expensive_one_by_rows(compose, monkeypatch):
    (cell,) = compose("max_steps=100", "batch_size=8", "eval_every=50")
    rows, evaluation = 800, cell.config["evaluation"]
    monkeypatch.setattr(probe, "_seconds_by_steps", lambda *_: 7.0)
    monkeypatch.setattr(probe, "_flops_per_second", lambda *_: 1e9)
    assert probe.seconds_of_run(cell.config, 1e6 * rows) == 7.0
    assert probe.seconds_of_run(cell.config, None) == 7.0
    taken = []

    def seconds_of_rows(run, count):
        taken.append(count)
        return 3.0 * count

    monkeypatch.setattr(probe, "_seconds_of_rows", seconds_of_rows)
    all_rows = rows + 2 * evaluation["validation_samples"] + 3 * evaluation["test_samples"]
    assert probe.seconds_of_run(cell.config, 5e8 * rows) == pytest.approx(3 * all_rows)
    assert taken == [4]
    # A single row would take longer than a probe may: its operations at the rate of this machine.
    assert probe.seconds_of_run(cell.config, 5e9 * rows) == pytest.approx(5 * all_rows)
    assert taken == [4]


def test_seconds_of_rows_are_scaled_to_their_number(compose, monkeypatch):
    (cell,) = compose("batch_size=4")
    monkeypatch.setattr(probe, "_seconds", lambda work: work() or 2.0)
    assert probe._seconds_of_rows(build(cell.config), 4) == 2.0
    assert probe._seconds_of_rows(build(cell.config), 40) == 20.0


def test_cells_that_were_not_probed_go_by_their_flops(compose, monkeypatch):
    cells = compose("max_steps=10", "seed=0,1,2", "task.degree=2,3")
    by_degree = {2: 1e9, 3: 3e9}
    flops = [by_degree[cell.config["task"]["degree"]] for cell in cells]
    probed = []

    def seconds_of_run(config, flops):
        probed.append(config["task"]["degree"])
        return flops / 1e8

    monkeypatch.setattr(probe, "seconds_of_run", seconds_of_run)
    assert probe.seconds_of_cells(cells, SweepCost(flops, 6), at_most=0) == pytest.approx(120)
    assert len(probed) == 1
    assert probe.seconds_of_cells(cells, SweepCost(flops, 6), at_most=60) == pytest.approx(120)
    assert sorted(probed[1:]) == [2, 3]


def test_lines_name_what_is_assumed(compose, monkeypatch, counted):
    cells = compose("max_steps=1000000", "batch_size=1000", "precision=fp32,bf16", "seed=0,1")
    monkeypatch.setattr(probe, "seconds_of_run", lambda *_: 1800.0)
    total, here, gpu = describe_cost(cells, runs_here=True)
    assert total.startswith("training to max_steps takes 8.0e09 FLOPs")
    assert here.startswith("at most 2.0 hours one after another")
    assert all(word in gpu for word in ("H100", "1.5e14 FLOP/s in bf16", "1.0e13 FLOP/s in fp32", "TF32"))
    assert len(describe_cost(cells, runs_here=False)) == 2
    assert "fp32" not in describe_cost([c for c in cells if c.config["precision"] == "bf16"], True)[2]


def test_a_loss_that_cannot_be_counted_is_named(compose, monkeypatch):
    cells = compose("task.degree=2,3")
    monkeypatch.setattr(probe, "seconds_of_run", lambda *_: 60.0)
    monkeypatch.setattr(cost, "_flops_of_row", lambda config: None)
    assert [line[:22] for line in describe_cost(cells, runs_here=True)] == ["at most 2.0 minutes on"]
    monkeypatch.setattr(cost, "_flops_of_row", lambda config: 1e6 if config["task"]["degree"] == 2 else None)
    assert "without 1 cell" in describe_cost(cells, runs_here=True)[0]
