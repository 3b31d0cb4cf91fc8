"""The command line: quick, Hydra's flags as Hydra means them, and one line for every mistake."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import CONF

from forethought.cli.main import run


def in_new_process(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "words", ["['--help']", "['status', 'nowhere']", "['report', 'nowhere']", "['nothing']"]
)
def test_no_torch_where_none_is_needed(words):
    code = f"from forethought.cli.main import run\nrun({words})\nimport sys; print('torch' in sys.modules)"
    done = in_new_process(code)
    assert done.stdout.splitlines()[-1] == "False", done.stderr


def test_help_takes_under_a_second():
    def seconds():
        start = time.perf_counter()
        done = in_new_process("from forethought.cli.main import run; run(['--help'])")
        assert "forethought COMMAND" in done.stdout
        return time.perf_counter() - start

    assert min(seconds() for _ in range(3)) < 1


def test_finished_cells_are_skipped_without_torch(workplace):
    words = ["train", "experiment=smoke", "model.layers=1", "model.width=16"]
    assert run(words) == 0
    done = in_new_process(
        f"from forethought.cli.main import run\nrun({words})\nimport sys; print('torch' in sys.modules)"
    )
    assert "finished before" in done.stdout
    assert done.stdout.splitlines()[-1] == "False"


def test_hydras_own_flags(workplace, capsys):
    run(["train", "--cfg", "job", "task.degree=7"])
    assert "degree: 7" in capsys.readouterr().out
    with pytest.raises(SystemExit) as left:
        run(["train", "--help"])
    out = capsys.readouterr().out
    assert left.value.code in (0, None)
    assert "task: addition, path_star" in out
    assert "solve_threshold" in out
    assert os.listdir() == []


WRONG = [
    ("task=nothing", "task=nothing: no such choice; expected one of addition, path_star"),
    ("model=nothing", "expected one of gpt"),
    ("objective=nothing", "objective=nothing: no such choice; expected one of"),
    ("optimizer=sgd", "expected one of adamw"),
    ("hardware=tpu", "expected one of auto, cpu, gpu, multi_gpu"),
    ("logger=tensorboard", "expected one of csv, wandb"),
    ("experiment=nothing", "experiment=nothing: no such choice"),
    ("task.dgree=3", "task.dgree: no such key; expected one of degree, path_length"),
    ("learning_rate=1", "learning_rate: no such key; expected one of task, model"),
    ("+task.foo=1", "task.foo=1: no such key"),
    ("+model.vocabulary_size=5", "model.vocabulary_size=5: no such key"),
    ("+model.token_names=[a]", "no such key"),
    ("+foo=1", "foo: no such key"),
    ("objective.horizon=2", "objective.horizon: no such key"),
    ("task.degree=abc", "task.degree=abc: expected a valid integer"),
    ("task.degree=2.5", "task.degree=2.5: expected a valid integer"),
    ("task.degree=0", "task.degree=0: expected greater than or equal to 1"),
    ("task.path_length=1", "task.path_length=1: expected greater than or equal to 2"),
    ("task.num_nodes=3", "task.num_nodes=3: G(2,4) has 7 nodes; expected at least 7"),
    ("task.edge_order=sorted", "expected 'shuffled', 'by_arm' or 'arms_permuted'"),
    ("task.reverse=1", "task.reverse=1: expected a valid boolean"),
    ("task.test_file=missing.txt", "missing.txt: No such file"),
    ("task.test_file=bad.txt", "bad.txt: line 2: '1,2|1,3/1,2=1,x' is malformed"),
    ("task.test_file=mixed.txt", "mixed.txt: line 2: a path of 2 nodes in 2 edges"),
    ("task.train_file=empty.txt", "the file is empty"),
    ("task.train_samples=0", "task.train_samples=0: expected greater than 0"),
    ("task=addition task.digits=99", "task.digits=99: expected less than or equal to 17"),
    ("model.width=65", "model.width=65: expected a multiple of model.heads=4"),
    ("model.mask=diagonal", "expected 'causal', 'prefix' or 'full'"),
    ("model.mask=full", "model.mask=full: NextToken has no meaning under it; expected causal or prefix"),
    ("objective=teacherless objective.next_token_weight=2", "expected less than 1"),
    ("objective=teacherless objective.next_token_weight=0.5 model.mask=full", "expected causal or prefix"),
    ("optimizer.lr=0", "optimizer.lr=0: expected greater than 0"),
    ("optimizer.lr=fast", "optimizer.lr=fast: expected a valid number"),
    ("optimizer.betas=[0.9]", "optimizer.betas=[0.9]: List should have at least 2 items"),
    ("optimizer.schedule=step", "expected 'constant' or 'cosine'"),
    ("hardware.threads=0", "hardware.threads=0: expected 'auto' or greater than 0"),
    ("hardware.precision=fp8", "expected 'auto', 'fp32' or 'bf16'"),
    ("hardware.devices=3", "batch_size=16: expected a multiple of hardware.devices=3"),
    ("seed=-1", "seed=-1: expected greater than or equal to 0"),
    ("max_steps=1e4", "max_steps=10000.0: expected a valid integer"),
    ("solve_threshold=2", "solve_threshold=2: expected less than or equal to 1"),
    ("stop_when_solved=maybe", "expected a valid boolean"),
    ("init_from=nowhere", "nowhere: has no checkpoints/last.ckpt"),
    ("evaluation.temperature=-1", "evaluation.temperature=-1: expected greater than or equal to 0"),
    ("task._target_=no.such.Class", "task._target_=no.such.Class: cannot be imported"),
    ("task._target_=os.path", "expected a class or a function"),
    ("~task", "task=None: expected one of the files in conf/task"),
    ("task=null", "expected GROUP=CHOICE"),
    ("task.degree=???", "Missing mandatory value: task.degree"),
    ("task.num_nodes=${nothing}", "Interpolation key 'nothing' not found"),
    ("model.layers", "model.layers: cannot be read; expected KEY=VALUE"),
    ("seed=[1", "seed=[1: cannot be read; expected KEY=VALUE"),
    ("=3", "expected GROUP=CHOICE"),
    ("--flag", "unrecognized arguments: --flag"),
    ("--config-dir=nope", "--config-dir=nope: no such folder"),
    ("--config-name=nope", "config-name=nope: no such choice"),
    ("-m sweep=a/b seed=1,2", "sweep=a/b"),
    ("-m seed=1,x", "seed=x: expected a valid integer"),
    ("-m task.degree=0,1", "task.degree=0"),
    ("-m seed=range(0)", "names no cell"),
    ("-m --cfg=job", "--cfg: shows one config"),
    ("evaluation=3", "evaluation=3: expected"),
    ("sweep=.. -m", "sweep=.."),
    ("task.num_nodes=99999999999", "expected less than or equal to 10000"),
    ("task.degree=1 task.path_length=2 task.num_nodes=2", "too few different instances"),
    ("task.train_samples=1 hardware=cpu hardware.devices=2", "expected at least hardware.devices=2"),
]


@pytest.mark.parametrize(("words", "message"), WRONG, ids=[words for words, _ in WRONG])
def test_a_wrong_override_is_one_line_and_writes_nothing(workplace, capsys, words, message):
    Path("bad.txt").write_text("1,2|2,3|3,4|1,5|5,6|6,7/1,4=1,2,3,4\n1,2|1,3/1,2=1,x\n")
    Path("mixed.txt").write_text("1,2|2,3|3,4|1,5|5,6|6,7/1,4=1,2,3,4\n1,2|1,3/1,2=1,2\n")
    Path("empty.txt").write_text("")
    smoke = [] if "experiment" in words else ["experiment=smoke"]
    assert run(["train", *words.split(), *smoke]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert len(captured.err.splitlines()) == 1
    assert captured.out == ""
    assert sorted(os.listdir()) == ["bad.txt", "empty.txt", "mixed.txt"]


@pytest.mark.parametrize(
    "words",
    [
        "nothing",
        *("status", "status nowhere", "status ."),
        *("resume", "resume nowhere", "resume . ."),
        *("evaluate", "evaluate nowhere", "evaluate ."),
        *("report", "report nowhere", "report ."),
    ],
)
def test_wrong_folders(workplace, capsys, words):
    assert run(words.split()) == 2
    captured = capsys.readouterr()
    assert len(captured.err.splitlines()) == 1
    assert captured.err.startswith("forethought: ")
    assert os.listdir() == []


def test_every_config_file_says_what_it_is():
    for path in CONF.rglob("*.yaml"):
        lines = [line for line in path.read_text().splitlines() if "@package" not in line]
        assert lines[0].startswith("# "), path
