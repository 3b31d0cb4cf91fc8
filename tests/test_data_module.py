"""TaskData in Lightning's own loops: epochs, resuming, and the shares of ranks."""

import threading
import time

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from forethought.errors import InputError
from forethought.tasks import Addition, Batch, Data, PathStar, TaskData

STEPS = 4  # optimiser steps of an epoch
AHEAD = pytest.mark.parametrize(("accumulate", "ahead"), [(1, False), (2, False), (2, True)])


class Recorder(pl.LightningModule):
    """Keeps the first prompt of each batch. The weight counts the optimiser steps."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.trained, self.validated = [], []

    def training_step(self, batch, index):
        self.trained.append(batch.prompt[0].tolist())
        return self.weight

    def validation_step(self, batch, index):
        self.validated.append((self.global_step, len(batch)))

    def test_step(self, batch, index):
        self.validated.append((self.global_step, len(batch)))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)


def data(**changed):
    defaults = {"batch_size": 3, "steps_per_epoch": STEPS, "validation_samples": 5, "test_samples": 7}
    return TaskData(Addition(digits=3), **{**defaults, **changed})


def trainer(folder, *callbacks, **arguments):
    return pl.Trainer(
        **{"max_epochs": -1, "num_sanity_val_steps": 0, **arguments},
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=bool(callbacks),
        callbacks=list(callbacks),
        default_root_dir=folder,
    )


def first_prompts(count):
    rows = Data(Addition(digits=3), 0, 3)
    return [rows.batch(step).prompt[0].tolist() for step in range(count)]


@AHEAD
def test_an_epoch_is_so_many_optimiser_steps(tmp_path, accumulate, ahead):
    module = Recorder()
    fitted = trainer(tmp_path, max_steps=2 * STEPS + 1, accumulate_grad_batches=accumulate)
    fitted.fit(module, data(draw_ahead=ahead))
    assert module.trained == first_prompts((2 * STEPS + 1) * accumulate)
    assert module.weight.item() == -(2 * STEPS + 1)
    assert module.validated == [(STEPS, 5), (2 * STEPS, 5), (2 * STEPS + 1, 5)]


def test_without_max_steps_epochs_end_the_training(tmp_path):
    module = Recorder()
    trainer(tmp_path, max_epochs=3).fit(module, data())
    assert module.trained == first_prompts(3 * STEPS)
    assert [step for step, _ in module.validated] == [STEPS, 2 * STEPS, 3 * STEPS]


SAVED = {
    "in an epoch": {"every_n_train_steps": STEPS + 2},
    "after the last batch of an epoch": {"every_n_train_steps": STEPS},
    "after validation": {"every_n_epochs": 1, "save_on_train_epoch_end": False},
    "at the end of an epoch": {"every_n_epochs": 1, "save_on_train_epoch_end": True},
}


@AHEAD
@pytest.mark.parametrize("saved", SAVED)
def test_a_resumed_run_sees_the_batches_of_an_undisturbed_run(tmp_path, saved, accumulate, ahead):
    whole = first_prompts(3 * STEPS * accumulate)
    saving = ModelCheckpoint(tmp_path, filename="{step}", save_top_k=-1, **SAVED[saved])
    arguments = {"max_steps": 3 * STEPS, "accumulate_grad_batches": accumulate}
    undisturbed = Recorder()
    trainer(tmp_path, saving, **arguments).fit(undisturbed, data(draw_ahead=ahead))
    assert undisturbed.trained == whole
    paths = sorted(tmp_path.glob("*.ckpt"))
    assert paths
    for path in paths:
        done = torch.load(path, weights_only=True)["global_step"]
        resumed = Recorder()
        fitted = trainer(tmp_path, **arguments)
        fitted.fit(resumed, data(draw_ahead=ahead), ckpt_path=path, weights_only=True)
        assert resumed.trained == whole[done * accumulate :]
        assert resumed.weight.item() == -3 * STEPS
        assert fitted.global_step == 3 * STEPS


def test_a_second_fit_goes_on_where_the_first_ended(tmp_path):
    saving = ModelCheckpoint(tmp_path, save_last=True)
    first, second = Recorder(), Recorder()
    trainer(tmp_path, saving, max_steps=STEPS + 1).fit(first, data())
    last = tmp_path / "last.ckpt"
    trainer(tmp_path, max_steps=2 * STEPS + 1).fit(second, data(), ckpt_path=last, weights_only=True)
    assert first.trained + second.trained == first_prompts(2 * STEPS + 1)


def test_loading_data_leaves_the_global_generator_alone(tmp_path):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    trainer(tmp_path, max_steps=2 * STEPS).fit(Recorder(), data())
    assert torch.equal(torch.get_rng_state(), before)


def test_test_rows(tmp_path):
    module = Recorder()
    trainer(tmp_path).test(module, data(), verbose=False)
    assert module.validated == [(0, 7)]


def test_without_a_trainer():
    module = data(validation_samples=4500)
    assert [batch.prompt[0].tolist() for batch in module.train_dataloader()] == first_prompts(STEPS)
    chunks = list(module.val_dataloader())
    assert all(isinstance(chunk, Batch) for chunk in chunks)
    assert [len(chunk) for chunk in chunks] == [1500, 1500, 1500]
    rows = Data(Addition(digits=3), 0, 3).validation(4500)
    assert torch.equal(torch.cat([chunk.prompt for chunk in chunks]), rows.prompt)


@pytest.fixture
def drawn(monkeypatch):
    """The steps whose batch was drawn: two of them, and then there are no more rows."""
    plain, steps = Data.batch, []

    def batch(self, step):
        steps.append(step)
        if step == 2:
            raise InputError("no more rows")
        return plain(self, step)

    monkeypatch.setattr(Data, "batch", batch)
    return steps


def test_one_batch_is_drawn_ahead_in_a_thread_that_ends(drawn):
    before = threading.active_count()
    batches = iter(data(draw_ahead=True).train_dataloader())
    next(batches)
    deadline = time.monotonic() + 10
    while drawn != [0, 1] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert drawn == [0, 1]
    batches.close()
    assert drawn == [0, 1]
    assert threading.active_count() == before


@pytest.mark.parametrize("ahead", [False, True])
def test_rows_that_cannot_be_drawn_end_the_training(drawn, ahead):
    batches = iter(data(draw_ahead=ahead).train_dataloader())
    assert [next(batches).prompt[0].tolist() for _ in range(2)] == first_prompts(2)
    with pytest.raises(InputError, match="no more rows"):
        next(batches)


class Rank:
    """Parts of a Trainer that TaskData reads, on one rank of three."""

    def __init__(self, rank):
        self.global_rank, self.world_size = rank, 3
        self.accumulate_grad_batches, self.max_steps = 1, -1
        single = trainer(".")
        self.strategy, self.fit_loop = single.strategy, single.fit_loop


def on_rank(rank, **changed):
    module = data(**changed)
    module.trainer = Rank(rank)
    return module


def test_ranks_share_every_batch():
    shares = [on_rank(rank, batch_size=6) for rank in range(3)]
    rows = Data(Addition(digits=3), 0, 6)
    for step, parts in enumerate(zip(*(share.train_dataloader() for share in shares), strict=True)):
        together = torch.stack([part.prompt for part in parts], 1).flatten(0, 1)
        assert torch.equal(together, rows.batch(step).prompt)


@pytest.mark.parametrize("count", [3, 1000, 6001, 10_000])
def test_ranks_share_validation_rows_in_equally_many_chunks(count):
    loaders = [list(on_rank(rank, validation_samples=count).val_dataloader()) for rank in range(3)]
    assert len({len(chunks) for chunks in loaders}) == 1
    assert all(0 < len(chunk) <= 2000 for chunks in loaders for chunk in chunks)
    together = torch.cat([chunk.prompt for chunks in loaders for chunk in chunks])
    rows = Data(Addition(digits=3), 0, 1).validation(count).prompt
    assert sorted(together.tolist()) == sorted(rows.tolist())


def test_defaults():
    module = TaskData(PathStar())
    assert (module.data.batch_size, module.data.seed, module.steps_per_epoch) == (64, 0, 250)
