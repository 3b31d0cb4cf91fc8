"""Lightning's own shape: notebooks, and any optimizer, logger, callback or Trainer argument by config."""

import inspect
import threading
from pathlib import Path

import pytest
import torch
from helpers import TINY, last_checkpoint, outcome, tiny
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from forethought.cli.main import run
from forethought.models import GPT
from forethought.objectives import Teacherless
from forethought.results import read_results
from forethought.tasks import PathStar, TaskData, derive_seed
from forethought.training import run_cell


def test_a_notebook_trains_what_the_command_line_trains(workplace):
    """The example of the docs, with Lightning's own callbacks."""
    torch.manual_seed(derive_seed(0, "weights"))
    task = PathStar(degree=2, path_length=4)
    extra = Teacherless.extra_positions(task)
    model = GPT.for_task(task, layers=1, width=16, heads=2, extra_positions=extra)
    objective = Teacherless(model, task)
    data = TaskData(task, batch_size=16, steps_per_epoch=10, validation_samples=64, test_samples=128)
    best = ModelCheckpoint("saved", monitor="val/accuracy", mode="max", filename="best")
    stopping = EarlyStopping("val/accuracy", mode="max", patience=1)
    trainer = Trainer(
        max_steps=40, callbacks=[best, stopping], accelerator="cpu", logger=False, enable_progress_bar=False
    )
    trainer.fit(objective, data)
    assert trainer.global_step == 20  # the second evaluation was no better
    assert Path(best.best_model_path).is_file()
    (validated,) = trainer.validate(objective, data, verbose=False)
    (tested,) = trainer.test(objective, data, verbose=False)

    words = ["objective=teacherless", "optimizer.clip_norm=null", "hardware.compile=false"]
    results = run_cell(tiny("run", *words))
    assert results.metrics == tested
    last = Path("run/metrics.csv").read_text().splitlines()[-1].split(",")
    assert validated["val/accuracy"] in map(float, last)
    weights = last_checkpoint("run")["state_dict"]
    assert all(torch.equal(weights[name], tensor) for name, tensor in objective.state_dict().items())


@pytest.fixture
def my_conf(workplace):
    """A folder of YAML files of a user, and the words that name it."""
    for name, text in {
        "optimizer/sgd": "_target_: torch.optim.SGD\nlr: 0.1\nmomentum: 0.9\nschedule: cosine\n",
        "callbacks/two": "rows:\n  _target_: faulty.Rows\nlate:\n  _target_: faulty.Fault\n  at: 12\n",
    }.items():
        path = Path(f"my_conf/{name}.yaml")
        path.parent.mkdir(parents=True)
        path.write_text(text)
    return ["train", "--config-dir=my_conf", *TINY, "hydra.run.dir=run"]


def test_an_optimizer_is_one_yaml_file(my_conf):
    assert run([*my_conf, "optimizer=sgd"]) == 0
    (state,) = last_checkpoint("run")["optimizer_states"]
    assert {*state["state"][0]} == {"momentum_buffer"}
    decayed, spared = state["param_groups"]
    assert (decayed["momentum"], decayed["initial_lr"], spared["weight_decay"]) == (0.9, 0.1, 0.0)


def test_an_optimizer_can_be_named_inline(workplace, capsys):
    words = ["train", *TINY, "hydra.run.dir=run", "optimizer._target_=torch.optim.SGD"]
    assert run(words) == 2
    error = capsys.readouterr().err
    assert "optimizer.betas" in error
    assert "weight_decay" in error
    assert not Path("run").exists()
    assert run([*words, "~optimizer.betas", "optimizer.weight_decay=0.1"]) == 0
    (state,) = last_checkpoint("run")["optimizer_states"]
    assert "nesterov" in state["param_groups"][0]


def test_callbacks_are_a_yaml_file(my_conf, capsys):
    assert run([*my_conf, "callbacks=two"]) == 1
    assert read_results(Path("run")).reason.startswith("RuntimeError: crash")
    assert last_checkpoint("run")["global_step"] == 10
    assert Path("rows-0").read_text() == "64 of 1"


def test_tensorboard_files_lie_in_the_folder_of_the_run(workplace, calm):
    pytest.importorskip("tensorboard", reason="needs `pip install tensorboard`")
    assert run(["train", *TINY, "hydra.run.dir=run", "logger=tensorboard"]) == 0
    (events,) = Path("run/tensorboard").glob("events.out.tfevents.*")
    assert b"val/accuracy" in events.read_bytes()
    assert Path("run/metrics.csv").is_file()
    assert outcome("run") == calm


def test_trainer_arguments_pass(workplace, capsys):
    words = ["trainer.accumulate_grad_batches=4", "trainer.profiler=simple"]
    assert run(["train", *TINY, "hydra.run.dir=run", *words]) == 0
    results = read_results(Path("run"))
    assert (results.steps, results.samples_seen) == (20, 4 * 20 * 16)


@pytest.mark.parametrize(
    ("word", "use"),
    [
        ("max_epochs=3", "max_steps"),
        ("gradient_clip_val=1", "optimizer.clip_norm"),
        ("precision=16", "precision"),
    ],
)
def test_trainer_arguments_that_break_exactness_are_refused(workplace, capsys, word, use):
    assert run(["train", *TINY, f"trainer.{word}"]) == 2
    error = capsys.readouterr().err
    assert f"trainer.{word}" in error
    assert use in error.partition(word)[2]
    assert list(Path().iterdir()) == []


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """The outcome of a run without variables of Lightning."""
    folder = tmp_path_factory.mktemp("calm")
    run_cell(tiny(folder / "run"))
    return outcome(folder / "run")


VARIABLES = {
    "ACCUMULATE_GRAD_BATCHES": "4",
    "GRADIENT_CLIP_VAL": "0.01",
    "OVERFIT_BATCHES": "1",
    "FAST_DEV_RUN": "True",
    "BAREBONES": "True",
    "MAX_EPOCHS": "1",
    "ENABLE_CHECKPOINTING": "False",
    "MAX_TIME": "00:00:00:00",
    "LIMIT_TRAIN_BATCHES": "2",
    "LIMIT_VAL_BATCHES": "0",
    "MIN_EPOCHS": "9",
    "NUM_NODES": "2",
    "DEVICES": "2",
    "PRECISION": "bf16-mixed",
    "CHECK_VAL_EVERY_N_EPOCH": "2",
}


def test_variables_of_lightning_do_not_change_a_run(workplace, monkeypatch, calm):
    """Lightning takes arguments that its Trainer is not given from PL_TRAINER_…; the log names them."""
    for name, value in VARIABLES.items():
        monkeypatch.setenv(f"PL_TRAINER_{name}", value)
    run_cell(tiny("run"))
    assert outcome("run") == calm
    log = Path("run/run.log").read_text()
    for name, value in VARIABLES.items():
        assert f"PL_TRAINER_{name}={value}: ignored" in log


def test_every_argument_of_the_trainer_is_deaf_to_variables(workplace, monkeypatch, calm):
    for name in inspect.signature(Trainer).parameters:
        monkeypatch.setenv(f"PL_TRAINER_{name.upper()}", "nonsense")
    run_cell(tiny("run"))
    assert outcome("run") == calm


@pytest.mark.parametrize("value", ["5", "nonsense"])
@pytest.mark.slow
def test_a_seed_of_lightning_does_not_change_a_run(workplace, monkeypatch, value):
    """Its DDP seeds anew before the training and before the test."""
    words = ["trainer.strategy=ddp", "hardware=cpu", "evaluation.decoding=sample"]
    run_cell(tiny("calm", *words))
    monkeypatch.setenv("PL_GLOBAL_SEED", value)
    monkeypatch.setenv("PL_SEED_WORKERS", "1")
    run_cell(tiny("run", *words))
    assert outcome("run") == outcome("calm")
    assert f"PL_GLOBAL_SEED={value}: ignored; use seed=VALUE" in Path("run/run.log").read_text()


def test_results_name_the_optimizer_that_trained(workplace):
    results = run_cell(tiny("run"))
    assert results.optimizer == "torch.optim.adamw.AdamW"
    results = run_cell(tiny("own", "objective._target_=own.OwnOptimizer"))
    assert results.optimizer == "torch.optim.sgd.SGD"
    assert "torch.optim.sgd.SGD itself" in Path("own/run.log").read_text()
    Path("own/results.json").unlink()
    assert run_cell(tiny("own", "objective._target_=own.OwnOptimizer")).optimizer == results.optimizer


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("number=1 steps=2", "objective: takes 2 optimizer steps in a batch; not supported"),
        ("number=1 steps=0", "objective: takes 0 optimizer steps in a batch; not supported"),
        (
            "number=2",
            "own.Optimizers: configure_optimizers returns SGD, SGD; not supported",
        ),
        ("number=0", "own.Optimizers: configure_optimizers returns none; not supported"),
        ("number=1", None),
    ],
)
def test_a_step_is_a_batch(workplace, words, said):
    """Lightning counts the steps of all optimizers, and `max_steps` would be another number of batches."""
    options = [f"+objective.{word}" for word in words.split()]
    results = run_cell(tiny("run", "objective._target_=own.Optimizers", *options))
    if said is None:
        assert (results.status, results.samples_seen) == ("finished", 20 * 16)
    else:
        assert results.status == "failed"
        assert said in results.reason


@pytest.mark.parametrize(
    ("what", "returned"),
    [
        *[(several, "SGD, SGD") for several in ("list", "tuple", "dicts", "with schedules")],
        ("none", "NoneType"),
        ("name", "str"),
        ("class", "type"),
        ("no optimizer", "NoneType"),
        *[(single, None) for single in ("one in a list", "one with its schedule", "a dict")],
    ],
)
@pytest.mark.slow
def test_configure_optimizers_returns_one(workplace, what, returned):
    results = run_cell(tiny("run", "objective._target_=own.Configures", f"+objective.what={what}"))
    assert (results.status == "finished") == (returned is None)
    if returned is not None:
        said = f"objective._target_=own.Configures: configure_optimizers returns {returned}; not supported"
        assert results.reason.startswith(said)
        assert "return one, with a parameter group" in results.reason
        assert not Path("run/metrics.csv").exists()


def test_an_index_of_optimizers_is_refused(workplace):
    results = run_cell(tiny("run", "objective._target_=own.OptimizerIndex"))
    assert results.reason.startswith(
        "objective._target_=own.OptimizerIndex: training_step takes optimizer_idx"
    )


def test_a_training_step_without_a_loss_is_said(workplace):
    assert run_cell(tiny("run", "objective._target_=own.NoLoss")).status == "finished"
    assert Path("run/run.log").read_text().count("training_step returned no loss") == 1


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [None, "pool", "basic"])
def test_a_command_runs_in_a_thread(workplace, launcher):
    """Signals can be handled in the main thread alone; the run does without."""
    sweep = [] if launcher is None else ["-m", f"hydra/launcher={launcher}", "hydra.launcher.workers=1"]
    codes = []
    words = ["train", *TINY, *sweep[: 3 if launcher == "pool" else 2]]
    thread = threading.Thread(target=lambda: codes.append(run(words)))
    thread.start()
    thread.join()
    assert codes == [0]
