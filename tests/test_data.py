"""Batches are a function of (seed, step), and test rows never occur in training."""

import random
from pathlib import Path

import pytest
import torch
from helpers import TINY

from forethought.cli.main import run
from forethought.errors import InputError
from forethought.tasks import Addition, Data, Draws, PathStar, base, held_out, validated_dataclass

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


@validated_dataclass
class SortedInTraining(PathStar):
    """The edges of training graphs stand arm after arm; those of the test stand anywhere."""

    def sample_training(self, count, draws):
        return PathStar(**SMALL, edge_order="by_arm").sample(count, draws)


def test_only_training_rows_follow_a_training_distribution_of_their_own():
    task = SortedInTraining(**SMALL)
    data, plain = Data(task, 0, 64), Data(PathStar(**SMALL), 0, 64)
    prompt = data.batch(3).prompt
    assert torch.equal(prompt[:, 1], prompt[:, 3])  # edge 2 leaves the node that edge 1 enters
    for mine, other in ((data.validation(64), plain.validation(64)), (data.test(64), plain.test(64))):
        assert torch.equal(mine.prompt, other.prompt)


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
    few, many = (Data(Addition(train_samples=count), 0, 16).training_set for count in (100, 10_000))
    assert len(many) == 10_000
    assert torch.equal(few.prompt, many.prompt[:100])


def text_of(task, rows):
    return [task.text(p, a) for p, a in zip(rows.prompt, rows.answer, strict=True)]


@validated_dataclass
class OneByOne(PathStar):
    """The slow twin of `PathStar.read`."""

    def parse_all(self, lines):
        return None


@validated_dataclass
class SlowSums(Addition):
    def parse_all(self, lines):
        return None


@validated_dataclass
class Counting(PathStar):
    """Notes each time that it reads a file."""

    def read(self, path):
        with open("reads", "a") as file:
            file.write(f"{path}\n")
        return super().read(path)


def tried(task, path):
    try:
        rows = task.read(str(path))
    except InputError as error:
        return str(error)
    return rows.prompt.tolist(), rows.answer.tolist()


@pytest.mark.parametrize(
    ("fast", "slow", "options"),
    [
        (PathStar, OneByOne, {"degree": 2, "path_length": 4, "num_nodes": 9}),
        (PathStar, OneByOne, {"degree": 3, "path_length": 2, "num_nodes": 12, "query_position": "first"}),
        (PathStar, OneByOne, {"degree": 1, "path_length": 3, "num_nodes": 3, "reverse": True}),
        (Addition, SlowSums, {"digits": 3}),
        (Addition, SlowSums, {"digits": 2, "order": "reversed"}),
    ],
)
@pytest.mark.slow
def test_many_lines_are_read_as_each_of_them(tmp_path, fast, slow, options):
    """Of correct files, and of files with a line in which characters are swapped, dropped or replaced."""
    rng, path = random.Random(0), tmp_path / "rows.txt"
    task, twin = fast(**options), slow(**options)
    lines = text_of(task, task.sample(40, Draws(3)))
    rejected = 0
    for trial in range(200):
        some = rng.sample(lines, rng.randint(1, 3))
        line = list(rng.choice(some))
        i, j = rng.sample(range(len(line)), 2)
        match trial % 4:
            case 1:
                line[i], line[j] = line[j], line[i]
            case 2:
                del line[i : i + rng.randint(1, 2)]
            case 3:
                line[i] = rng.choice("0123456789,|/=+- ²é")
        path.write_text("\n".join([*some, "".join(line)]) + "\n" * rng.randint(0, 1), encoding="utf-8")
        got = tried(task, path)
        assert got == tried(twin, path)
        rejected += isinstance(got, str)
    assert 66 < rejected < 166


def test_a_fault_far_down_a_large_file_is_named_by_its_line(tmp_path):
    task, path = PathStar(**SMALL), tmp_path / "rows.txt"
    lines = text_of(task, task.sample(100, Draws(3))) * 30
    lines[2500] = "1,2"
    path.write_text("\n".join(lines))
    with pytest.raises(InputError, match=r"rows.txt: line 2501: '1,2' is malformed"):
        task.read(str(path))


@pytest.mark.parametrize("task", [PathStar(**SMALL), Addition(), SlowSums()])
@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n", "\r\n\r\n", "\n \n\t \n\n", "\n" * 3000 + "  "])
def test_blank_lines_at_the_end_of_a_file_are_ignored(tmp_path, monkeypatch, task, end):
    monkeypatch.setattr(base, "_LINES", 32)
    path, rows = tmp_path / "rows.txt", task.sample(32, Draws(3))  # as many as are parsed at a time
    path.write_bytes(("\n".join(text_of(task, rows)) + end).encode())
    assert torch.equal(task.read(str(path)).prompt, rows.prompt)


@pytest.mark.parametrize("task", [PathStar(**SMALL), Addition()])
def test_correct_files_are_read_at_once(tmp_path, monkeypatch, task):
    """200,000 published rows took a minute and a half when they were parsed one by one."""
    lines = text_of(task, task.sample(100, Draws(3)))
    (tmp_path / "rows.txt").write_text("\n".join(lines * 100))
    monkeypatch.delattr(type(task), "parse")
    assert len(task.read(str(tmp_path / "rows.txt"))) == 10_000


def test_a_file_is_read_once_and_what_is_set_aside_is_said(workplace, capsys):
    """Once in a run, and once in a sweep in one process; again after it has changed."""
    plain = PathStar(degree=2, path_length=4, num_nodes=7)
    rows = plain.sample(400, Draws(3))
    Path("train.txt").write_text("\n".join(text_of(plain, rows[:300])))
    Path("test.txt").write_text("\n".join(text_of(plain, rows[300:])))
    words = ["train", *TINY, "task._target_=test_data.Counting", "task.train_file=train.txt"]
    keys, tested = plain.fingerprint(rows[:300]), plain.fingerprint(rows[300:])
    aside = int((held_out(plain, rows[:300]) | torch.isin(keys, tested)).sum())
    said = f"task.train_file=train.txt: {300 - aside} rows to train on; {aside} rows set aside"
    assert run([*words, "task.test_file=test.txt", "hydra.run.dir=run"]) == 0
    assert sorted(Path("reads").read_text().split()) == ["test.txt", "train.txt"]
    assert capsys.readouterr().out.count(said) == 1
    assert said in Path("run/run.log").read_text()
    assert run([*words, "-m", "hydra/launcher=basic", "seed=0,1", "task.train_samples=20,50"]) == 0
    assert len(Path("reads").read_text().split()) == 2, "read for the single run"
    Path("train.txt").write_text("\n".join(text_of(plain, rows)))
    assert run([*words, "hydra.run.dir=again"]) == 0
    assert len(Path("reads").read_text().split()) == 3
