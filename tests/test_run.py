"""One run: what it leaves, exact resuming, and what it refuses."""

import csv
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import TINY
from torch.multiprocessing import ProcessRaisedException

from forethought.cli.main import run
from forethought.config import Composer
from forethought.errors import InputError
from forethought.evaluation import diagnose
from forethought.results import read_results
from forethought.tasks import Draws, PathStar, derive_seed, held_out
from forethought.training import build, load_run, train
from forethought.training.callbacks import Progress
from forethought.training.run import _reason
from forethought.training.train import begin

SMOKE = [*TINY, "task.num_nodes=7"]


def config(*overrides):
    return Composer([*SMOKE, *overrides]).cells()[0].config


def weights(folder):
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def figures(outcome):
    return {**outcome.metrics, "steps": outcome.steps, "steps_to_solve": outcome.steps_to_solve}


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
    assert set(results.versions) == {"python", "torch", "lightning", "forethought"}
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
    for name in ("config.yaml", "overrides.yaml"):
        assert (folder / ".hydra" / name).is_file()


def test_running_it_again_runs_nothing(workplace, capsys):
    assert run(["train", *SMOKE]) == 0
    (folder,) = Path("outputs").iterdir()
    before = (folder / "results.json").stat().st_mtime_ns
    assert run(["train", *SMOKE]) == 0
    assert "finished before" in capsys.readouterr().out
    assert (folder / "results.json").stat().st_mtime_ns == before


def test_a_loaded_run_is_the_trained_one(workplace):
    run(["train", *SMOKE])
    (folder,) = Path("outputs").iterdir()
    objective, settings = load_run(folder)
    assert settings["seed"] == 0
    for name, tensor in objective.state_dict().items():
        assert torch.equal(tensor, weights(folder)[name])


class Stop(Exception):
    pass


@pytest.mark.parametrize(
    "changed",
    ["objective=next_token", "objective=teacherless", "objective=masked_next_token", "optimizer=muon"],
)
@pytest.mark.parametrize("stop", [1, 7, 10, 13, 20])
def test_resuming_is_exact(tmp_path, monkeypatch, stop, changed):
    """Stopped after any step, then resumed: weights and every figure bit for bit those of a calm run."""
    settings = config(changed, "task.train_samples=40")
    calm = train(settings, tmp_path / "calm")

    plain = Progress.on_train_batch_end

    def stopping(self, trainer, *arguments):
        plain(self, trainer, *arguments)
        if trainer.global_step == stop:
            raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "on_train_batch_end", stopping)
        with pytest.raises(Stop):
            train(settings, tmp_path / "stopped")
    resumed = train(settings, tmp_path / "stopped")
    assert figures(resumed) == figures(calm)
    assert (tmp_path / "calm" / "metrics.csv").read_text() == (
        tmp_path / "stopped" / "metrics.csv"
    ).read_text()
    for name, tensor in weights(tmp_path / "calm").items():
        assert torch.equal(tensor, weights(tmp_path / "stopped")[name]), name


def test_mixed_precision_trains_and_clips(tmp_path):
    settings = config("hardware.precision=bf16", "optimizer.clip_norm=1e-9", "optimizer.weight_decay=0")
    outcome = train(settings, tmp_path)
    assert outcome.steps == 20
    # AdamW divides by the gradient's own size, unless that is below its epsilon of 1e-8: clipping shows.
    start = build(settings).objective.state_dict()
    moved = max((weights(tmp_path)[name] - start[name]).abs().max().item() for name in start)
    assert 0 < moved < 20 * 2e-4 / 2


@pytest.mark.slow
def test_compiled_training_is_eager_training(workplace):
    """In processes of their own: the run-time type checks of the tests cannot be compiled."""
    for flag, folder in (("false", "eager"), ("true", "compiled")):
        words = [*SMOKE, f"hardware.compile={flag}", f"hydra.run.dir={folder}"]
        subprocess.run([sys.executable, "-m", "forethought", "train", *words], check=True)
    for name, tensor in weights(Path("eager")).items():
        torch.testing.assert_close(tensor, weights(Path("compiled"))[name], atol=1e-5, rtol=1e-3)


@pytest.mark.slow
def test_two_processes_train_what_one_trains(tmp_path):
    """DDP over gloo: each has half of every batch, so all but the order of a sum is the same."""
    one, two = (train(config("hardware=cpu", f"hardware.devices={n}"), tmp_path / str(n)) for n in (1, 2))
    assert one.samples_seen == two.samples_seen
    for name, tensor in weights(tmp_path / "1").items():
        torch.testing.assert_close(tensor, weights(tmp_path / "2")[name], atol=1e-6, rtol=1e-4)


def test_seeds_differ_and_repeat(tmp_path):
    first, again, other = (
        figures(train(config(f"seed={seed}"), tmp_path / name))
        for name, seed in (("a", 3), ("b", 3), ("c", 4))
    )
    assert first == again
    assert first["test/decision_margin"] != other["test/decision_margin"]


def test_a_solved_run_stops_and_is_not_trained_on(tmp_path):
    """With a threshold that anything passes, training ends at the first evaluation."""
    words = ["solve_threshold=1e-9", "task=addition", "task.digits=1", "max_steps=2000"]
    settings = Composer([*TINY, *words]).cells()[0].config
    outcome = train(settings, tmp_path)
    assert outcome.steps == outcome.steps_to_solve < 2000
    assert train(settings, tmp_path).steps == outcome.steps


def test_reaching_the_threshold_is_solving(tmp_path):
    calm = train(config("task.path_length=2", "max_steps=100"), tmp_path / "calm")
    with open(tmp_path / "calm" / "metrics.csv", newline="") as file:
        rows = [(int(r["step"]), float(r["val/accuracy"])) for r in csv.DictReader(file) if r["val/accuracy"]]
    best = max(accuracy for _, accuracy in rows)
    assert best > 0
    first = min(step for step, accuracy in rows if accuracy == best)
    exact = config("task.path_length=2", "max_steps=100", f"solve_threshold={best!r}")
    assert train(exact, tmp_path / "exact").steps_to_solve == first
    assert calm.steps_to_solve is None


def test_noise_is_a_function_of_seed_and_step(tmp_path):
    progress = begin(config("seed=3"), tmp_path).progress
    progress.seed_noise(7)
    drawn = torch.rand(4)
    torch.manual_seed(derive_seed(3, "noise", 7))
    assert drawn.equal(torch.rand(4))


def test_sampled_answers_resume_exactly_too(tmp_path):
    settings = config("evaluation.temperature=1.0")
    calm = train(settings, tmp_path)
    assert figures(train(settings, tmp_path)) == figures(calm)


def test_curves_lost_between_checkpoint_and_file_come_back(tmp_path):
    train(config(), tmp_path)
    curves = (tmp_path / "metrics.csv").read_text()
    (tmp_path / "metrics.csv").unlink()
    train(config(), tmp_path)
    assert (tmp_path / "metrics.csv").read_text() == curves


def test_fewer_fixed_rows_than_a_batch_are_counted_as_they_are(tmp_path):
    assert train(config("task.train_samples=5"), tmp_path).samples_seen == 20 * 5


@pytest.mark.parametrize("place", ["moved", "b,=é x", "it's"])
def test_a_single_run_resumes_wherever_it_lies(workplace, capsys, place):
    assert run(["train", *SMOKE]) == 0
    (folder,) = Path("outputs").iterdir()
    results = read_results(folder)
    (folder / "results.json").unlink()
    shutil.move(folder, place)
    os.mkdir("elsewhere")
    os.chdir("elsewhere")
    assert run(["resume", f"../{place}"]) == 0
    assert read_results(Path("..") / place).metrics == results.metrics
    assert os.listdir() == []


def test_training_starts_from_another_runs_weights(workplace):
    run(["train", *SMOKE])
    (folder,) = Path("outputs").iterdir()
    started = config(f"init_from={folder}", "optimizer.lr=1e-30", "objective=teacherless")
    train(started, Path("next"))
    for name, tensor in weights(folder).items():
        torch.testing.assert_close(tensor, weights(Path("next"))[name], atol=1e-6, rtol=0)


def test_init_from_another_size_is_refused(workplace, capsys):
    run(["train", *SMOKE])
    (folder,) = Path("outputs").iterdir()
    capsys.readouterr()
    assert run(["train", *SMOKE, f"init_from={folder}", "model.layers=2"]) == 2
    assert "expected a run of the same task size and model" in capsys.readouterr().err
    assert list(Path("outputs").iterdir()) == [folder]


def test_a_failed_run_says_so(workplace, capsys):
    assert run(["train", *SMOKE, "optimizer.lr=1e30", "optimizer.clip_norm=null"]) == 1
    error = capsys.readouterr().err
    assert "the training loss became nan" in error
    (folder,) = Path("outputs").iterdir()
    assert read_results(folder).status == "failed"
    assert "Traceback" in (folder / "run.log").read_text()


def test_evaluating_on_other_data(workplace, capsys):
    run(["train", *SMOKE, "model.positions=rotary"])
    (folder,) = Path("outputs").iterdir()
    capsys.readouterr()
    trained = read_results(folder).metrics
    task = PathStar(degree=2, path_length=4, num_nodes=7)
    rows = task.sample(400, Draws(0))
    lines = [task.text(p, a) for p, a in zip(rows.prompt, rows.answer, strict=True)]
    Path("graphs.txt").write_text("\n".join(lines) + "\n")
    assert run(["evaluate", str(folder)]) == 0
    (path,) = (folder / "evaluations").iterdir()
    assert json.loads(path.read_text())["metrics"] == trained
    assert "100.0% of them held out" in capsys.readouterr().out
    assert run(["evaluate", str(folder), "task.path_length=3", "evaluation.temperature=1.0"]) == 0
    assert len(list((folder / "evaluations").iterdir())) == 2
    capsys.readouterr()
    assert run(["evaluate", str(folder), "task.test_file=graphs.txt"]) == 0
    share = held_out(task, rows).double().mean().item()
    assert f"400 rows, {share:.1%} of them held out" in capsys.readouterr().out
    assert 0.05 < share < 0.25
    for words, message in (
        (["task.num_nodes=20"], "not the 11 that"),
        (["task.dgree=3"], "no such key"),
        (["task.degree=x"], "valid integer"),
        (["model.layers=3"], "expected KEY=VALUE with a key under"),
        (["task.test_file=none.txt"], "No such file"),
    ):
        assert run(["evaluate", str(folder), *words]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert len(error.splitlines()) == 1
    assert len(list((folder / "evaluations").iterdir())) == 3


def test_a_test_that_ends_in_no_number_is_a_failure(workplace, monkeypatch, capsys):
    """The last update may have gone astray after the last loss that was looked at."""

    def astray(*rest):
        return {**diagnose(*rest), "forced_loss": math.nan}

    monkeypatch.setattr(sys.modules["forethought.training.train"], "diagnose", astray)
    assert run(["train", *SMOKE, "hydra.run.dir=run"]) == 1
    assert "FloatingPointError: test/forced_loss became nan" in capsys.readouterr().err
    assert read_results(Path("run")).status == "failed"


def test_the_reason_of_a_process_that_raised():
    told = "\n\n-- Process 1 terminated with the following error:\nTraceback (most recent call last):\n  x\n"
    assert _reason(ProcessRaisedException(f"{told}ValueError: no luck\n", 1, 2)) == "ValueError: no luck"
    assert _reason(ValueError("no luck\nand more")) == "ValueError: no luck"
    assert _reason(InputError("seed=x: expected 1")) == "seed=x: expected 1"


def test_each_process_of_a_ddp_run_has_noise_of_its_own(tmp_path):
    parts = build(config())
    progress = Progress(parts.settings, parts.task.sample(1, Draws(0)), tmp_path, None)

    def noise(*place):
        progress.seed_noise(*place)
        return torch.rand(()).item()

    assert noise(3, 0) == noise(3) == noise(3, 0)
    assert len({noise(3, 0), noise(3, 1), noise(3, 2), noise(4, 1)}) == 4
