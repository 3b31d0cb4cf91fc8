"""One run: what it leaves, exact resuming, and what it refuses."""

import csv
import json
import os
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from helpers import TINY, fault, last_checkpoint, outcome, tiny

from forethought.cli.main import run
from forethought.results import read_results
from forethought.sweeps import raise_on_signal
from forethought.sweeps.source import hash_source
from forethought.tasks import Draws, PathStar, held_out
from forethought.training import build, load, run_cell

SMOKE = [*TINY, "task.num_nodes=7"]


def train(folder, *words):
    results = run_cell(tiny(folder, *words))
    assert results.status == "finished", results.reason
    return results


def train_with_fault(folder, at, how, *words):
    """Train until something happens after batch `at`."""
    with raise_on_signal(), suppress(KeyboardInterrupt):
        run_cell(tiny(folder, *words, fault(at, how)))


def test_what_a_run_leaves_behind(workplace, capsys):
    assert run(["train", *SMOKE]) == 0
    (folder,) = Path("outputs").iterdir()
    assert str(folder) in capsys.readouterr().out
    results = read_results(folder)
    assert results.status == "finished"
    assert results.cell == folder.name
    assert results.steps == 20
    assert results.samples_seen == 20 * 16
    assert results.config["task"]["num_nodes"] == 7
    assert results.choices["objective"] == "next_token"
    assert {"forethought.objectives.next_token", "forethought.tasks.path_star"} < set(results.sources)
    shares = [value for name, value in results.metrics.items() if name.startswith("test/error_")]
    assert results.metrics["test/accuracy"] + sum(shares) == pytest.approx(1)
    with open(folder / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [5, 10, 15, 20]
    assert [bool(row["val/accuracy"]) for row in rows] == [False, True, False, True]
    assert all(row["train/loss"] for row in rows)
    for name in ("last.ckpt", "best.ckpt"):
        torch.load(folder / "checkpoints" / name, weights_only=True)
    assert results.cell in (folder / "run.log").read_text()
    for name in ("config.yaml", "overrides.yaml", "cell.json"):
        assert (folder / ".hydra" / name).is_file()


def test_results_tell_every_stretch(tmp_path):
    train_with_fault(tmp_path, 7, "SIGTERM")
    stretches = train(tmp_path).stretches
    assert [(stretch.first_step, stretch.last_step) for stretch in stretches] == [(0, 20), (7, 20)]
    for stretch in stretches:
        assert set(stretch.versions) == {"python", "torch", "lightning", "forethought"}
        assert "fp32" in stretch.device
        assert stretch.dirty in (True, False)
        assert len(stretch.commit) == 40
        for fact in ("command", "host", "date", "cpu", "instructions"):
            assert getattr(stretch, fact), fact


def test_precision_is_part_of_the_identity_and_hardware_is_not():
    words = ["precision=fp32", "precision=bf16", "hardware=cpu", "hardware.threads=2"]
    fp32, bf16, *others = [tiny(".", word).name for word in words]
    assert fp32 != bf16
    assert set(others) == {fp32}


def test_the_objective_of_a_folder_is_the_trained_one(tmp_path):
    train(tmp_path)
    weights = last_checkpoint(tmp_path)["state_dict"]
    for name, tensor in load(tmp_path).state_dict().items():
        assert torch.equal(tensor, weights[name])


STOPS = [
    (1, "SIGTERM"),
    (7, "crash"),
    (7, "SIGUSR1"),
    (10, "SIGUSR2"),
    (11, "crash"),
    (13, "SIGTERM"),
    (20, "crash"),
]


@pytest.mark.parametrize(
    "words",
    [
        ["objective=masked_next_token", "task.train_samples=40"],
        pytest.param([], marks=pytest.mark.slow),
        pytest.param(["optimizer=muon", "optimizer.schedule=cosine"], marks=pytest.mark.slow),
        pytest.param(["trainer.accumulate_grad_batches=2"], marks=pytest.mark.slow),
        pytest.param(
            ["max_steps=25", "evaluation.decoding=sample", "task=addition", "task.digits=1"],
            marks=pytest.mark.slow,
        ),
    ],
    ids=" ".join,
)
def test_resuming_is_exact(tmp_path, words):
    """Stopped again and again, in epochs, between them and at the end, and moved each time."""
    train(tmp_path / "calm", *words)
    folder = tmp_path / "stopped-0"
    for number, (at, how) in enumerate(STOPS):
        train_with_fault(folder, at, how, *words)
        assert read_results(folder).status == {"crash": "failed"}.get(how, "interrupted")
        folder = folder.rename(tmp_path / f"stopped-{number + 1}")
    train(folder, *words)
    (folder / "results.json").unlink()  # killed before it wrote them
    train(folder, *words)
    assert outcome(folder) == outcome(tmp_path / "calm")


@pytest.mark.parametrize("steps", [20, 25])
@pytest.mark.slow
def test_a_run_goes_on_beyond_its_end(workplace, steps):
    """As if the longer run had been asked for at once, but for one more evaluation at the earlier end."""
    assert run(["train", *TINY, f"max_steps={steps}", "hydra.run.dir=short"]) == 0
    assert run(["resume", "short", "max_steps=40"]) == 0
    (longer,) = Path().glob("short-*")
    train("long", "max_steps=40")
    *resumed, curves = outcome(longer)
    *at_once, expected = outcome("long")
    assert resumed == at_once
    rows = curves.splitlines()
    assert [row for row in rows if not row.startswith("25,") or steps == 20] == [
        row for row in expected.splitlines() if not row.startswith("25,") or steps == 20
    ]
    assert read_results(Path("short")).steps == steps


def test_a_checkpoint_of_the_older_form_is_read(tmp_path):
    """Forethought 0.1 kept its state, with the curves, in a callback named `Progress`."""
    train(tmp_path / "calm")
    train_with_fault(tmp_path / "old", 13, "SIGTERM")
    path = tmp_path / "old" / "checkpoints" / "last.ckpt"
    checkpoint = last_checkpoint(tmp_path / "old")
    seconds = checkpoint.pop("forethought")["seconds"]
    progress = {"rows": [{"step": 5}], "steps_to_solve": 4, "best_accuracy": 0.5, "seconds": seconds}
    torch.save({**checkpoint, "callbacks": {"Progress": progress}}, path)
    results = train(tmp_path / "old", "stop_when_solved=true")
    calm = read_results(tmp_path / "calm")
    assert (results.steps, results.steps_to_solve) == (13, 4)  # solved, and so not trained on
    assert calm.steps_to_solve is None
    torch.save({**checkpoint, "callbacks": {"Progress": {**progress, "steps_to_solve": None}}}, path)
    (tmp_path / "old" / "results.json").unlink()
    assert train(tmp_path / "old").metrics == calm.metrics


@pytest.mark.parametrize("error", ["crash", "ctrl-c"])
def test_results_are_on_disk_before_they_are_published(tmp_path, error):
    """Whatever `publish` of a logger does, the run has finished."""
    with suppress(KeyboardInterrupt):
        run_cell(tiny(tmp_path, "+logger.error=" + error, "logger._target_=faulty.Unlucky"))
    assert read_results(tmp_path).status == "finished"
    assert (tmp_path / "published.json").read_text() == (tmp_path / "results.json").read_text()


def test_mixed_precision_trains_and_clips(tmp_path):
    words = ["precision=bf16", "optimizer.clip_norm=1e-9", "optimizer.weight_decay=0"]
    results = train(tmp_path, *words)
    assert results.steps == 20
    assert "bf16" in results.device
    # AdamW divides by the gradient's own size, unless that is below its epsilon of 1e-8: clipping shows.
    start = build(results.config).objective.state_dict()
    weights = last_checkpoint(tmp_path)["state_dict"]
    assert 0 < max((weights[name] - start[name]).abs().max().item() for name in start) < 20 * 2e-4 / 2


def test_other_seeds_are_other_runs(tmp_path):
    for seed in (3, 4):
        train(tmp_path / str(seed), f"seed={seed}")
    *_, weights, curves = outcome(tmp_path / "3")
    *_, other_weights, other_curves = outcome(tmp_path / "4")
    assert weights != other_weights
    assert curves != other_curves


def test_a_solved_run_stops_and_is_not_trained_on(tmp_path):
    """At the first evaluation that is three standard errors above the threshold."""
    words = ["task.path_length=2", "task.num_nodes=12", "optimizer.lr=1e-2", "max_steps=60"]
    assert train(tmp_path / "calm", *words).steps_to_solve is None
    with open(tmp_path / "calm" / "metrics.csv", newline="") as file:
        rows = [(int(r["step"]), float(r["val/accuracy"])) for r in csv.DictReader(file) if r["val/accuracy"]]
    best, count = max(accuracy for _, accuracy in rows), 64
    assert 0 < best < 0.95
    threshold = next(
        t / 1000 for t in range(950, 0, -1) if t + 3 * (t * (1000 - t) / count) ** 0.5 <= 1000 * best
    )
    solved, first = (min(step for step, accuracy in rows if accuracy >= a) for a in (threshold, best))
    words += [f"solve_threshold={threshold}"]
    times = set()
    for _ in range(2):
        results = train(tmp_path / "exact", *words)
        assert (results.steps, results.steps_to_solve) == (first, solved)
        assert results.flops_to_solve / solved == pytest.approx(results.training_flops / first)
        assert 0 < results.seconds_to_solve <= results.wall_seconds
        times.add(results.seconds_to_solve)
        (tmp_path / "exact" / "results.json").unlink()
    assert len(times) == 1  # the second time, they are those of the checkpoint
    results = train(tmp_path / "on", *words, "stop_when_solved=false")
    assert (results.steps, results.steps_to_solve) == (60, solved)


def test_fewer_fixed_rows_than_a_batch_are_counted_as_they_are(tmp_path):
    assert train(tmp_path, "task.train_samples=5").samples_seen == 20 * 5


@pytest.mark.parametrize("place", ["moved", "b,=é x", "it's"])
def test_a_single_run_resumes_wherever_it_lies(workplace, capsys, place):
    assert run(["train", *SMOKE, "hydra.run.dir=run"]) == 0
    results = read_results(Path("run"))
    Path("run", "results.json").unlink()
    shutil.move("run", place)
    os.mkdir("elsewhere")
    os.chdir("elsewhere")
    assert run(["resume", f"../{place}"]) == 0
    assert read_results(Path("..") / place).metrics == results.metrics
    assert os.listdir() == []


@pytest.mark.parametrize("source", ["run", "sweep"])
def test_training_starts_from_another_runs_weights(workplace, source):
    """Of a sweep, from those of the run with the same seed."""
    if source == "run":
        folder = first = "first"
        train("first")
    else:
        folder = "multirun/first"
        assert run(["train", "-m", *SMOKE, "sweep=first", "seed=6,7", "max_steps=20"]) == 0
        (first,) = Path(folder).glob("*-s7-*")
    train("next", f"init_from={folder}", "seed=7", "optimizer.lr=1e-30", "objective=teacherless")
    for name, tensor in last_checkpoint(first)["state_dict"].items():
        torch.testing.assert_close(tensor, last_checkpoint("next")["state_dict"][name], atol=1e-6, rtol=0)
    if source == "sweep":
        results = run_cell(tiny("other", f"init_from={folder}", "seed=8"))
        assert "init_from=multirun/first: has 0 finished runs of seed=8" in results.reason


@pytest.mark.parametrize(("objective", "warned"), [("preference", True), ("policy_gradient", False)])
def test_an_objective_that_starts_from_a_trained_model_says_so(workplace, objective, warned):
    train("run", f"objective={objective}", "max_steps=2", "eval_every=2")
    log = Path("run", "run.log").read_text()
    assert ("Preference has little to learn from an untrained model; use init_from=RUN" in log) == warned


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (
            ["optimizer.lr=1e30", "optimizer.clip_norm=null"],
            "FloatingPointError: the training loss became nan",
        ),
        # The last update may have gone astray after the last loss that was read.
        ([fault(20, "astray")], "FloatingPointError: test/"),
        ([fault(3)], "RuntimeError: crash\n"),
    ],
)
def test_a_failed_run_says_so(workplace, capsys, words, reason):
    assert run(["train", *SMOKE, *words, "hydra.run.dir=run"]) == 1
    assert f"failed: {reason}" in capsys.readouterr().err
    results = read_results(Path("run"))
    assert results.status == "failed"
    assert results.reason.startswith(reason.strip())
    assert "Traceback" in Path("run", "run.log").read_text()


def test_evaluating_on_other_data(workplace, capsys):
    folder = Path("run")
    run(["train", *SMOKE, "model.positions=rotary", "evaluation.probe_samples=100", "hydra.run.dir=run"])
    capsys.readouterr()
    results = read_results(folder)
    trained, probes = results.metrics, results.probes
    assert [trained[f"test/probe_accuracy_{i}"] for i in range(1, 5)] == pytest.approx(probes[-1], rel=1e-3)
    task = PathStar(degree=2, path_length=4, num_nodes=7)
    rows = task.sample(400, Draws(0))
    lines = [task.text(p, a) for p, a in zip(rows.prompt, rows.answer, strict=True)]
    Path("graphs.txt").write_text("\n".join(lines) + "\n")
    assert run(["evaluate", "run"]) == 0
    (path,) = (folder / "evaluations").iterdir()
    report = json.loads(path.read_text())
    assert (report["metrics"], report["probes"]) == (trained, probes)
    assert "100.0% of them held out" in capsys.readouterr().out
    assert run(["evaluate", "run", "task.path_length=3", "evaluation.decoding=beam"]) == 0
    assert len(list((folder / "evaluations").iterdir())) == 2
    capsys.readouterr()
    assert run(["evaluate", "run", "task.test_file=graphs.txt"]) == 0
    share = held_out(task, rows).double().mean().item()
    assert f"400 rows, {share:.1%} of them held out" in capsys.readouterr().out
    assert 0.05 < share < 0.25
    assert len(list((folder / "evaluations").iterdir())) == 3


def test_evaluating_a_run_of_an_earlier_version(workplace, capsys):
    """Its config lacks the keys of later decodings."""
    results = train("run")
    evaluation = results.config["evaluation"]
    earlier = {key: evaluation[key] for key in ("validation_samples", "test_samples")}
    path = Path("run/results.json")
    stored = json.loads(path.read_text())
    stored["config"]["evaluation"] = earlier | {"temperature": 0.0}
    path.write_text(json.dumps(stored))

    def metrics(*words):
        assert run(["evaluate", "run", *words]) == 0
        written = Path(capsys.readouterr().out.split("written to ")[1].strip())
        return json.loads(written.read_text())["metrics"]

    assert metrics() == results.metrics
    beam = metrics("evaluation.decoding=beam")
    assert beam["test/forced_loss"] == results.metrics["test/forced_loss"]
    assert beam["test/token_accuracy_3"] != results.metrics["test/token_accuracy_3"]
    assert run(["evaluate", "run", "evaluation.decoding=sample"]) == 2
    assert "evaluation.temperature=0.0" in capsys.readouterr().err
    metrics("evaluation.decoding=sample", "evaluation.temperature=1")


@pytest.mark.slow
def test_an_edited_objective_is_said(workplace, monkeypatch, capsys):
    """A run with other source code is not run again by itself."""
    source = Path("my_objective.py")
    source.write_text("from forethought.objectives import NextToken\nclass Mine(NextToken):\n    pass\n")
    monkeypatch.syspath_prepend(".")
    words = ["train", *TINY, "objective._target_=my_objective.Mine", "hydra.run.dir=run"]

    def again(*more):
        hash_source.cache_clear()  # as in a process of its own
        assert run([*words, *more]) == 0
        return capsys.readouterr().out

    assert "my_objective" not in again()
    assert "my_objective" not in again()
    source.write_text(source.read_text() + "# edited\n")
    said = again()
    assert "nothing is run again" in said
    assert "my_objective" in said
    assert "force=true" in said
    assert "finished before" not in again("force=true")
    assert len(read_results(Path("run")).stretches) == 1
    assert read_results(Path("run")).config["force"] is False, "a job that is requeued must resume"
    assert "my_objective" not in again()


@pytest.mark.parametrize(
    ("words", "use"),
    [
        ([], "evaluation.test_samples"),
        (["task.degree=2", "task.path_length=2", "task.num_nodes=7"], "a larger task"),
        (["task.test_file=rows.txt"], "task.test_file"),
        (["evaluation.test_samples=200"], None),
    ],
)
def test_the_log_names_what_limits_the_instances_of_the_test(workplace, words, use):
    Path("rows.txt").write_text("1,2|2,3|3,4|1,5|5,6|6,0/1,4=1,2,3,4\n" * 50)
    run_cell(tiny("run", "evaluation.test_samples=40", "max_steps=1", *words))
    said = [line for line in Path("run/run.log").read_text().splitlines() if "different instances" in line]
    assert len(said) == (use is not None)
    assert all(use in line for line in said)
