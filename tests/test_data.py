"""Batches are a function of (seed, step), and test rows never occur in training."""

import pytest
import torch

from forethought.errors import InputError
from forethought.tasks import Addition, Data, Draws, PathStar, held_out

SMALL = {"degree": 2, "path_length": 3, "num_nodes": 7}


def prints(task, *pieces):
    return {int(x) for batch in pieces for x in task.fingerprint(batch)}


@pytest.mark.parametrize("fixed", [{}, {"train_samples": 100}])
def test_a_batch_is_a_function_of_seed_and_step(fixed):
    task = PathStar(**SMALL, **fixed)
    data, again, other = Data(task, 0, 16), Data(task, 0, 16), Data(task, 1, 16)
    for step in (0, 5, 3, 5, 1000):
        assert torch.equal(data.batch(step).prompt, again.batch(step).prompt)
        assert not torch.equal(data.batch(step).prompt, other.batch(step).prompt)
    assert not torch.equal(data.batch(0).prompt, data.batch(1).prompt)


@pytest.mark.parametrize("fixed", [{}, {"train_samples": 3000}])
@pytest.mark.parametrize("task_type", ["path_star", "addition"])
def test_held_out_rows_never_occur_in_training(task_type, fixed):
    """On tasks so small that by accident they surely would."""
    task = PathStar(**SMALL, **fixed) if task_type == "path_star" else Addition(digits=1, **fixed)
    data = Data(task, 0, 500)
    train = prints(task, *(data.batch(step) for step in range(20)))
    test, validation = prints(task, data.test(500)), prints(task, data.validation(500))
    assert not train & test
    assert not train & validation
    assert not test & validation
    assert len(train) > 5 * len(test) > 0
    assert validation


def test_rows_of_a_test_file_never_occur_in_training(tmp_path):
    plain = PathStar(**SMALL)
    rows = plain.sample(400, Draws(3))
    path = tmp_path / "test.txt"
    path.write_text("".join(plain.text(p, a) + "\n" for p, a in zip(rows.prompt, rows.answer, strict=True)))
    task = PathStar(**SMALL, test_file=str(path))
    data = Data(task, 0, 500)
    assert torch.equal(data.test(5).prompt, rows.prompt)
    train = prints(task, *(data.batch(step) for step in range(20)))
    assert not train & prints(task, rows)
    assert not train & prints(task, data.validation(200))
    # A training file may hold them: they are dropped.
    both = PathStar(**SMALL, test_file=str(path), train_file=str(path))
    with pytest.raises(InputError, match="train_file"):
        Data(both, 0, 16).batch(0)


def test_training_rows_from_a_file(tmp_path):
    plain = PathStar(**SMALL)
    rows = plain.sample(400, Draws(3))
    path = tmp_path / "train.txt"
    path.write_text("".join(plain.text(p, a) + "\n" for p, a in zip(rows.prompt, rows.answer, strict=True)))
    data = Data(PathStar(**SMALL, train_file=str(path), train_samples=100), 0, 100)
    allowed = rows[~held_out(plain, rows)][:100]
    assert prints(plain, data.batch(0)) == prints(plain, allowed)
    assert not held_out(plain, data.batch(3)).any()
    assert held_out(plain, data.test(50)).all()
    assert held_out(plain, data.validation(50)).all()


def test_no_run_trains_on_what_another_tests_on(tmp_path):
    """Also with a test file: `evaluate` may later draw fresh test rows for the same model."""
    plain = PathStar(**SMALL)
    path = tmp_path / "test.txt"
    row = plain.sample(1, Draws(3))
    path.write_text(plain.text(row.prompt[0], row.answer[0]) + "\n")
    data = Data(PathStar(**SMALL, test_file=str(path)), 0, 500)
    assert not prints(plain, *(data.batch(i) for i in range(10))) & prints(plain, Data(plain, 5, 1).test(500))


def test_a_test_file_of_everything_is_refused(tmp_path):
    task = Addition(digits=1)
    path = tmp_path / "all.txt"
    path.write_text("".join(f"{a}+{b}={a + b:02d}\n" for a in range(10) for b in range(10)))
    with pytest.raises(InputError, match="nothing is left to train on"):
        Data(Addition(digits=1, test_file=str(path)), 0, 4).batch(0)
    assert task.test_file is None


def test_a_task_too_small_to_hold_rows_out_is_refused():
    tiny = PathStar(degree=1, path_length=2, num_nodes=2)
    partitions = ("test", "validation")
    with pytest.raises(InputError, match="too few different instances"):
        [getattr(Data(tiny, 0, 4), partition)(1) for partition in partitions]


def test_fixed_rows_are_each_seen_once_an_epoch():
    task = PathStar(degree=2, path_length=4, num_nodes=30, train_samples=64)
    data = Data(task, 0, 16)
    epochs = [[data.batch(step) for step in range(4 * e, 4 * e + 4)] for e in range(2)]
    for epoch in epochs:
        assert len(prints(task, *epoch)) == 64
    assert prints(task, *epochs[0]) == prints(task, *epochs[1])
    assert not torch.equal(epochs[0][0].prompt, epochs[1][0].prompt)


def test_fewer_fixed_rows_than_a_batch():
    task = PathStar(degree=2, path_length=4, num_nodes=30, train_samples=5)
    assert len(Data(task, 0, 16).batch(7)) == 5


@pytest.mark.parametrize("part", ["validation", "test"])
def test_fewer_held_out_rows_are_the_first_of_more(part):
    data = Data(PathStar(degree=2, path_length=4, num_nodes=30), 0, 16)
    few, many = (getattr(data, part)(count) for count in (10, 1000))
    assert torch.equal(few.prompt, many.prompt[:10])
    assert len(many) == 1000


def test_more_fixed_rows_than_are_drawn_at_a_time():
    """The first of them do not depend on how many there are."""
    few, many = (Data(Addition(train_samples=count), 0, 16)._fixed for count in (100, 10_000))
    assert len(many) == 10_000
    assert torch.equal(few.prompt, many.prompt[:100])
