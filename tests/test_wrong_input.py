"""A mistake is one line that names the key, the value and what would be accepted; nothing is written."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from forethought.cli.main import run

TINY = "experiment=smoke model.layers=1 model.width=16 model.heads=2"
OWN = "experiment=smoke"  # where the line below gives the model itself

GRAPH = "1,2|2,3|3,4|1,5|5,6|6,0/1,4=1,2,3,4\n"
FILES = {
    "bad.txt": GRAPH + "1,2|1,3/1,2=1,x\n",
    "mixed.txt": GRAPH + "1,2|1,3/1,2=1,2\n",
    "empty.txt": "",
    "blank.txt": GRAPH + "\n",
    "binary.txt": b"\xff\xfe\x00\x80",
    "latin1.txt": "é\n".encode("latin1"),
    "arity.txt": "1,2,9|2,3|3,4|1,5|5,6|6,7/1,4=1,2,3,4\n",
    "outside.txt": GRAPH.replace("0", "10"),
    "negative.txt": GRAPH.replace("0", "-7"),
    "huge.txt": GRAPH.replace("0", "9" * 5000),
    "twice.txt": GRAPH.replace("6,0", "5,6"),
    "cycle.txt": GRAPH.replace("6,0", "6,5"),
    "answer.txt": GRAPH.replace("=1,2,3,4", "=1,5,6,0"),
    "goal.txt": GRAPH.replace("/1,4", "/1,0"),
    "crlf.txt": GRAPH.replace("\n", "\r\n") + "x\r\n",
    "bom.txt": "\ufeff" + GRAPH + "x\n",
    "sum.txt": "0012+0034=00047\n",
    "sizes.txt": "012+034=0046\n",
}

GROUPS = [
    ("task=nothing", "task=nothing: no such choice; expected one of addition, path_star"),
    (
        "task=pathstar",
        "task=pathstar: no such choice; expected one of addition, path_star; did you mean path_star?",
    ),
    ("model=gtp", "model=gtp: no such choice; expected one of gpt, infini_gpt, looped_gpt, lstm, mamba"),
    ("objective=teacherles", "; did you mean teacherless?"),
    ("objective=next-token", "; did you mean next_token?"),
    ("optimizer=adam", "optimizer=adam: no such choice; expected one of adamw, muon; did you mean adamw?"),
    ("hardware=tpu", "hardware=tpu: no such choice; expected one of auto, cpu, gpu, multi_gpu"),
    ("logger=tensorboard", "logger=tensorboard: no such choice; expected one of csv, wandb"),
    ("experiment=smok", "experiment=smok: no such choice; expected one of"),
    ("hydra/launcher=nothing", "hydra/launcher=nothing: no such choice; expected one of basic, pool"),
    ("task=", "task=: no such choice; expected one of addition, path_star"),
    ("task=null", "task=null: names no choice; expected GROUP=CHOICE"),
    ("=3", "=3: names no choice; expected GROUP=CHOICE"),
    ("task=path_star,addition", "task=path_star,addition: several values; expected one, or -m for a sweep"),
    ("+task=addition", "+task: is chosen already; expected task=CHOICE without +"),
    ("model@x=gpt", "model@x: no such group; expected GROUP=CHOICE"),
    ("~task", "task=None: expected task=CHOICE, a file in conf/task, or task.KEY=VALUE"),
    ("evaluation=3", "evaluation=3: expected evaluation.KEY=VALUE"),
    ("task._target_=no.such.Class", "task._target_=no.such.Class: cannot be imported"),
    ("task._target_=os.path", "task._target_=os.path: expected a class derived from forethought.tasks"),
    ("task._target_=os.getcwd", "expected a class derived from forethought.tasks"),
    ("objective._target_=builtins.dict", "expected a class derived from forethought.objectives"),
    ("model._target_=torch.tensor", "expected a class derived from torch.nn"),
    ("optimizer._target_=torch.optim.AdamW", "expected a class with a method __call__"),
    ("logger._target_=builtins.dict", "expected a class with a method open"),
]

KEYS = [
    ("task.dgree=3", "task.dgree: no such key; expected one of degree, path_length"),
    ("task.lenght=3", "test_file; did you mean path_length?"),
    ("steps=5", "; did you mean max_steps?"),
    ("learning_rate=1", "learning_rate: no such key; expected one of task, model, objective"),
    ("optimizer.learning_rate=1", "optimizer.learning_rate: no such key; expected one of lr, betas"),
    ("objective.horizon=2", "objective.horizon: no such key; expected none"),
    ("task=addition task.degree=3", "task.degree: no such key; expected one of digits, order"),
    ("evaluation.test_sample=9", "; did you mean test_samples?"),
    ("seed.x=3", "seed.x: no such key; expected none"),
    ("+foo=1", "foo: no such key; expected one of"),
    ("+task.foo=1", "task.foo=1: no such key; expected one of"),
    ("++task.dgree=1", "task.dgree=1: no such key; expected one of"),
    ("+model.vocabulary_size=5", "model.vocabulary_size=5: no such key; expected one of layers"),
    ("+model.token_names=[a]", "no such key"),
    ("+task.degree=3", "+task.degree: is there; expected task.degree=… without +"),
    ("~task.foo", "~task.foo: no such key; expected one that is there"),
    ("~seed", "seed: a value is needed"),
    ("hydra.foo=3", "hydra.foo: no such key; expected one of run, sweep"),
    ("hydra.job.chdir=maybe", "hydra.job.chdir=maybe: Value 'maybe' is not a valid bool"),
    ("hydra.run.dir=", "hydra.run.dir=: expected the path of a folder"),
    ("hydra.run.dir=bad.txt", "bad.txt: File exists; expected a folder that can be written"),
    ("hydra.run.dir=bad.txt/x", "bad.txt/x: Not a directory; expected a folder that can be written"),
]

VALUES = [
    ("task.degree=abc", "task.degree=abc: expected a valid integer"),
    ("task.degree=2.5", "task.degree=2.5: expected a valid integer"),
    ("task.degree=", "task.degree=: expected a valid integer"),
    ("task.degree=null", "task.degree=null: expected a valid integer"),
    ("task.degree=true", "task.degree=true: expected a valid integer"),
    ("task.degree=0", "task.degree=0: expected greater than or equal to 1"),
    ("task.degree=2,3", "task.degree=2,3: several values; expected one, or -m for a sweep"),
    ("task.degree=???", "task.degree=???: a value is needed"),
    ("task.path_length=1", "task.path_length=1: expected greater than or equal to 2"),
    ("task.num_nodes=99999999999", "expected less than or equal to 10000"),
    ("task.num_nodes=${nothing}", "task.num_nodes: Interpolation key 'nothing' not found; expected"),
    ("task.edge_order=sorted", "task.edge_order=sorted: expected one of shuffled, by_arm, arms_permuted"),
    ("task.reverse=1", "task.reverse=1: expected true or false"),
    ("task.train_samples=0", "task.train_samples=0: expected greater than 0"),
    ("task.train_samples=99999999999", "expected less than or equal to 10000000"),
    ("task=addition task.digits=99", "task.digits=99: expected less than or equal to 17"),
    ("task=addition task.order=revresed", "expected one of plain, reversed; did you mean reversed?"),
    ("model.layers=0", "model.layers=0: expected greater than 0"),
    ("model.heads=0", "model.heads=0: expected greater than 0"),
    ("model.mask=diagonal", "model.mask=diagonal: expected one of causal, prefix, full"),
    ("model=mamba model.backend=triton", "model.backend=triton: expected one of auto, torch, mamba_ssm"),
    ("objective=multi_token objective.horizon=0", "objective.horizon=0: expected greater than 0"),
    ("objective=teacherless objective.next_token_weight=2", "expected less than 1"),
    ("objective=masked_next_token objective.rate=2", "objective.rate=2: expected less than or equal to 1"),
    ("optimizer.lr=0", "optimizer.lr=0: expected greater than 0"),
    ("optimizer.lr=fast", "optimizer.lr=fast: expected a valid number"),
    ("optimizer.lr=inf", "optimizer.lr=inf: expected a finite number"),
    ("optimizer.lr=nan", "optimizer.lr=nan: expected"),
    ("optimizer.betas=[0.9]", "optimizer.betas=[0.9]: expected 2 values"),
    ("optimizer.betas=[0.9,1.5]", "optimizer.betas.1=1.5: expected less than 1"),
    ("optimizer.schedule=step", "optimizer.schedule=step: expected one of constant, cosine"),
    ("hardware.precision=fp8", "hardware.precision=fp8: expected one of auto, fp32, bf16"),
    ("hardware.devices=0", "hardware.devices=0: expected greater than 0"),
    ("hardware.devices=-1", "hardware.devices=-1: expected greater than 0"),
    ("hardware.threads=0", "hardware.threads=0: expected auto or greater than 0"),
    ("hardware.compile=maybe", "hardware.compile=maybe: expected auto or true or false"),
    ("hardware.accelerator=cuda", "hardware.accelerator=cuda: expected one of auto, cpu, gpu"),
    ("logger.project=x", "logger.project: no such key; expected none"),
    ("logger=wandb logger.mode=loud", "logger.mode=loud: expected one of"),
    ("seed=-1", "seed=-1: expected greater than or equal to 0"),
    ("seed=", "seed=: expected a valid integer"),
    ("max_steps=1e4", "max_steps=10000.0: expected a valid integer"),
    ("batch_size=0", "batch_size=0: expected greater than 0"),
    ("batch_size=99999999999", "batch_size=99999999999: expected less than or equal to 10000000"),
    ("solve_threshold=2", "solve_threshold=2: expected less than or equal to 1"),
    ("stop_when_solved=maybe", "stop_when_solved=maybe: expected true or false"),
    ("dry_run=1", "dry_run=1: expected true or false"),
    ("evaluation.temperature=-1", "evaluation.temperature=-1: expected greater than or equal to 0"),
    ("evaluation.test_samples=99999999999", "expected less than or equal to 10000000"),
    ("sweep=", "sweep=: expected a name of letters, digits"),
]

TOGETHER = [
    ("task.num_nodes=3", "task.num_nodes=3: G(2,4) has 7 nodes; expected at least 7"),
    ("task.degree=1 task.path_length=2 task.num_nodes=2", "too few different instances"),
    (f"model.layers=1001 {OWN}", "model.layers=1001: expected less than or equal to 1000"),
    (f"model.width=1000000000 {OWN}", "model: more than the memory here can hold; expected a smaller one"),
    (f"model.width=65 {OWN}", "model.width=65: not supported with model.heads=4"),
    (
        f"model.positions=rotary model.width=12 {OWN}",
        "model.width=12: not supported with model.heads=4 and model.positions=rotary",
    ),
    (
        f"model=mamba2 model.head_width=7 {OWN}",
        "model.head_width=7: not supported with model.expand=2",
    ),
    ("model.mask=full", "model.mask=full: NextToken has no meaning under it; expected causal or prefix"),
    (
        f"model=lstm model.mask=prefix {OWN}",
        "model.mask=prefix: not supported by LSTM; use causal",
    ),
    (f"objective=any_order model=mamba {OWN}", "model: Mamba has no positions to shuffle; expected gpt"),
    (
        "objective=multi_token objective.horizon=9",
        "objective.horizon=9: the answer has 4 tokens; expected at most 4",
    ),
    (
        "objective=joint_multi_token objective.heads=3",
        "objective.heads=3: expected a divisor of model.width=16",
    ),
    ("objective=teacherless objective.next_token_weight=0.5 model.mask=full", "expected causal or prefix"),
    ("hardware.devices=3", "batch_size=16: expected a multiple of hardware.devices=3"),
    ("task.train_samples=1 hardware=cpu hardware.devices=2", "expected at least hardware.devices=2"),
    ("init_from=nowhere", "init_from=nowhere: has no checkpoints/last.ckpt; expected the folder of a run"),
    ("init_from=", "init_from=: expected a text that is not empty"),
    ("init_from=3", "init_from=3: expected a valid string"),
]

DATA = [
    ("task.test_file=missing.txt", "task.test_file=missing.txt: No such file"),
    ("task.test_file=.", "task.test_file=.: Is a directory; expected a text file"),
    ("task.test_file=3", "task.test_file=3: expected a valid string"),
    ("task.train_file=empty.txt", "task.train_file=empty.txt: the file is empty; expected one row per line"),
    ("task.test_file=blank.txt", "blank.txt: line 2: '' is malformed; expected a,b|c,d"),
    ("task.test_file=binary.txt", "binary.txt: not a text file; expected"),
    ("task.train_file=latin1.txt", "latin1.txt: not a text file; expected"),
    ("task.test_file=bad.txt", "bad.txt: line 2: '1,2|1,3/1,2=1,x' is malformed; expected a,b|c,d"),
    ("task.test_file=mixed.txt", "mixed.txt: line 2: a path of 2 nodes in 2 edges"),
    ("task.test_file=arity.txt", "arity.txt: line 1: '1,2,9|2,3"),
    ("objective=plan_tokens objective.tokens=abc", "objective.tokens=abc: expected a valid integer"),
    ("objective=plan_tokens objective.tokens=-50", "objective.tokens=-50: expected greater than"),
    ("task.test_file=outside.txt", "line 1: node 10 is out of range for task.num_nodes=7; expected 0…6"),
    ("task.test_file=negative.txt", "line 1: node -7 is out of range for task.num_nodes=7; expected 0…6"),
    ("task.test_file=huge.txt", "line 1: '1,2|2,3|3,4|1,5|5,6|6,999999999999999999' is malformed"),
    ("task.test_file=twice.txt", "line 1: the edges are not a star around 1; expected 2 arms of 4 nodes"),
    ("task.test_file=cycle.txt", "line 1: the edges are not a star around 1; expected 2 arms of 4 nodes"),
    ("task.test_file=answer.txt", "line 1: 1,5,6,0 is not the path from 1 to 4"),
    ("task.test_file=goal.txt", "line 1: 1,2,3,4 is not the path from 1 to 0"),
    ("task.test_file=crlf.txt", "crlf.txt: line 2: 'x' is malformed"),
    ("task.test_file=bom.txt", "bom.txt: line 2: 'x' is malformed"),
    (
        "task=addition task.test_file=sum.txt",
        "line 1: '0012+0034=00047' is a wrong sum",
    ),
    (
        "task=addition task.test_file=sizes.txt",
        "line 1: '012+034=0046' is malformed; expected a+b=sum with 4",
    ),
]

SYNTAX = [
    ("model.layers", "model.layers: cannot be read; expected KEY=VALUE"),
    ("seed=[1", "seed=[1: cannot be read; expected KEY=VALUE"),
    ("seed==3", "seed==3: cannot be read; expected KEY=VALUE"),
    ("--flag", "unrecognized arguments: --flag; expected flags of Hydra and KEY=VALUE"),
    ("--config-dir=nope", "--config-dir=nope: no such folder; expected one"),
    ("--config-name=nope", "--config-name=nope: no such file; expected one in conf"),
    ("--config-path=x", "--config-path=x: expected --config-dir"),
    ("--experimental-rerun=x", "--experimental-rerun: expected `forethought resume FOLDER`"),
    ("--package=task", "--package, --resolve: say how --cfg shows a config; expected --cfg with them"),
    ("--cfg=nope", "argument --cfg/-c: invalid choice: 'nope'"),
    ("--cfg=job task.dgree=3", "task.dgree: no such key"),
    ("--help task=nothing", "task=nothing: no such choice"),
    ("seed=range(3)", "seed=range(3): several values; expected one, or -m for a sweep"),
    ("-m --cfg=job", "--cfg: shows one config; expected it without -m"),
    ("-m seed=1,", "seed=1,: cannot be read; expected KEY=VALUE"),
    ("-m seed=1,x", "seed=x: expected a valid integer"),
    ("-m task.degree=0,1", "task.degree=0: expected greater than or equal to 1"),
    (
        "-m task=path_star,additon",
        "task=additon: no such choice; expected one of addition, path_star; did you",
    ),
    ("-m seed=range(0)", "seed=range(0): names no cell; expected at least one value"),
    ("-m seed=range(3", "seed=range(3: cannot be read; expected KEY=VALUE"),
    ("-m seed=range(1,5,0)", "seed=range(1,5,0): range() arg 3 must not be zero; expected"),
    ("-m seed=interval(1,5)", "seed=interval(1,5): Can only enumerate CHOICE and RANGE sweeps"),
    ("-m objective=glob(x*)", "objective=glob(x*): names no cell; expected at least one value"),
    ("-m task.num_nodes=3,4", "task.num_nodes=3: G(2,4) has 7 nodes"),
    (
        "-m hardware.precision=fp32,bf16 seed=0,1",
        "hardware.precision=bf16, hardware.precision=fp32: would be one cell, path_star-2x4-gpt-1x16",
    ),
    ("-m sweep=a/b", "sweep=a/b: expected a name of letters, digits"),
    ("-m sweep=..", "sweep=..: expected a name of letters, digits"),
    ("-m sweep=a,b", "sweep: its cells would lie in multirun/a, multirun/b; expected one folder"),
    ("-m hydra.sweep.dir=", "hydra.sweep.dir=: expected the path of a folder"),
    ("-m hydra.sweep.dir=bad.txt", "bad.txt: File exists; expected a folder that can be written"),
    ("-m hydra.sweep.subdir=x seed=1,2", "hydra.sweep.subdir=x: a cell's folder has the cell's name"),
    ("-m hydra/sweeper=nothing", "hydra/sweeper=nothing: no such choice; expected one of basic"),
    ("-m hydra.launcher.workers=0", "hydra.launcher.workers=0: expected greater than 0"),
    ("-m hydra.launcher.worker=1", "; did you mean workers?"),
]

TRAIN = GROUPS + KEYS + VALUES + TOGETHER + DATA + SYNTAX

NO_GPU = [
    ("hardware=gpu", "hardware.accelerator=gpu: torch sees no CUDA device here; expected cpu or auto"),
    ("hardware.cuda_graph=true", "hardware.cuda_graph=true: takes one GPU, hardware=gpu; expected false"),
    ("hardware=multi_gpu", "hardware.accelerator=gpu: torch sees no CUDA device here; expected cpu or auto"),
]

# What there is: run, sweep, and copies of them that are broken in one place.
FOLDERS = [
    ("nothing", "nothing: no such command; expected one of train, status, resume, evaluate, report"),
    ("trian", "; did you mean train?"),
    ("--halp", "--halp: no such command"),
    ("status", "status: expected one folder of a sweep"),
    ("status sweep sweep", "status sweep sweep: expected one folder of a sweep"),
    ("status --all sweep", "status --all: expected --watch or --json"),
    ("status nowhere", "nowhere: no such folder; expected the folder of a sweep"),
    ("status .", ".: has no grid.json; expected the folder of a sweep"),
    ("status run", "run: has no grid.json; expected the folder of a sweep"),
    ("status bad.txt", "bad.txt: no such folder; expected the folder of a sweep"),
    ("status grid_cut", "grid_cut/grid.json: no JSON; expected a file written by forethought"),
    ("status grid_list", "grid_list/grid.json: no grid of cells; expected a file written by forethought"),
    ("status curves_binary", "metrics.csv: no learning curves; expected numbers and a column `step`"),
    ("status results_cut_in_sweep", "results.json: no JSON; expected a file written by forethought"),
    ("resume", "resume: expected the folder of one sweep or run"),
    ("resume sweep seed=3", "resume sweep seed=3: expected the folder of one sweep or run"),
    ("resume nowhere", "nowhere: no run has begun here; expected the folder of a sweep or run"),
    ("resume .", "no run has begun here; expected the folder of a sweep or run"),
    ("resume bad.txt", "bad.txt: no run has begun here; expected the folder of a sweep or run"),
    ("resume sweep/stray", "stray: is no cell of the sweep it lies in; expected a run or a sweep"),
    ("resume grid_cut", "grid_cut/grid.json: no JSON; expected a file written by forethought"),
    ("resume hydra_cut", "hydra_cut/.hydra/hydra.yaml: damaged; expected a file of Hydra: run the command"),
    ("resume hydra_text", "hydra_text/.hydra/hydra.yaml: damaged; expected a file of Hydra: run the command"),
    ("resume results_cut", "results_cut/results.json: no JSON; expected a file written by forethought"),
    ("report", "report: the following arguments are required: FOLDER; expected `forethought report FOLDER`"),
    ("report run --all", "report: unrecognized arguments: --all; expected `forethought report FOLDER`"),
    ("report sweep --where=nothing=1", "--where: nothing: no column; expected one of cell, sweep, group"),
    ("report sweep --where=seed>", "--where 'seed>': ends too early; expected COLUMN = VALUE"),
    ("report sweep --metric=nothing", "--metric: nothing: no metric; expected one of solved"),
    ("report nowhere", "nowhere: no such folder; expected the folder of a sweep or of a run"),
    ("report sweep/stray", "stray: no results"),
    ("report results_cut", "results_cut/results.json: no JSON; expected a file written by forethought"),
    ("report results_later", "schema_version: Input should be 1; expected a file of schema_version 1"),
    ("evaluate", "evaluate: expected the folder of a run, then KEY=VALUE"),
    ("evaluate nowhere", "nowhere: has no results.json; expected the folder of a finished run"),
    ("evaluate sweep", "sweep: has no results.json; expected the folder of a finished run"),
    ("evaluate bad.txt", "bad.txt: has no results.json; expected the folder of a finished run"),
    ("evaluate results_cut", "results_cut/results.json: no JSON; expected a file written by forethought"),
    ("evaluate results_empty", "results_empty/results.json: no JSON; expected a file written by forethought"),
    ("evaluate results_list", "results_list/results.json: Input should be a valid dictionary"),
    ("evaluate results_later", "schema_version: Input should be 1; expected a file of schema_version 1"),
    ("evaluate results_key", "results.json: verdct: Extra inputs are not permitted; expected"),
    ("evaluate results_folder", "results_folder/results.json: Is a directory; expected a file written by"),
    ("evaluate results_bare", "task=None: expected task=CHOICE"),
    ("evaluate results_call", "task._target_=os.mkdir: expected a class derived from forethought.tasks"),
    (
        "evaluate run task.num_nodes=20",
        "task: its 24 tokens are not the 14 that this run's model knows; expected",
    ),
    (
        "evaluate run task.path_length=5",
        "is longer than the 25 learned positions; use a shorter task or model.positions=rotary",
    ),
    ("evaluate run task.degree=9", "task.num_nodes=10: G(9,4) has 28 nodes; expected at least 28"),
    ("evaluate run task=addition", "task=addition: task is no single value; expected task.KEY=VALUE"),
    ("evaluate run task.dgree=3", "task.dgree=3: no such key; expected one of degree"),
    ("evaluate run task.degree=x", "task.degree=x: expected a valid integer"),
    ("evaluate run task.degree=", "task.degree=: expected a valid integer"),
    ("evaluate run task.reverse=yes", "task.reverse=yes: expected true or false"),
    ("evaluate run task.test_file=bad.txt", "task.test_file=bad.txt: line 2"),
    ("evaluate run seed=1,2", "seed=1,2: expected KEY=VALUE with a key under task, evaluation"),
    ("evaluate run seed=[1", "seed=[1: cannot be read; expected KEY=VALUE"),
    ("evaluate run seed.x=1", "seed.x=1: no such key; expected none"),
    ("evaluate run +seed=1", "+seed=1: expected KEY=VALUE with a key under task, evaluation"),
    ("evaluate run model.layers=3", "model.layers=3: expected KEY=VALUE with a key under task, evaluation"),
    ("evaluate run hardware.threads=0", "hardware.threads=0: expected auto or greater than 0"),
    ("evaluate run --flag", "--flag: cannot be read; expected KEY=VALUE"),
]

CHECKPOINTS = {
    "missing": "no checkpoints/last.ckpt; expected the folder of a run",
    "folder": "no checkpoints/last.ckpt; expected the folder of a run",
    "empty": "no checkpoint of forethought, or damaged; expected a whole one, or none to start anew",
    "cut": "last.ckpt: no checkpoint of forethought, or damaged",
    "text": "last.ckpt: no checkpoint of forethought, or damaged",
    "foreign": "last.ckpt: no checkpoint of forethought, or damaged",
    "code": "last.ckpt: no checkpoint of forethought, or damaged",
    "hidden_code": "last.ckpt: no checkpoint of forethought, or damaged",
    "larger": "no place; expected a run of the same task size and model",
}
"""What can be in the place of a checkpoint, and the line about it."""


class Trap:
    """Whoever unpickles it the careless way makes a folder."""

    def __reduce__(self):
        return (os.mkdir, ("trapped",))


def spoil(checkpoint, how):
    """Put something else in the place of a checkpoint."""
    whole = checkpoint.read_bytes()
    state = torch.load(checkpoint, weights_only=True)
    checkpoint.unlink()
    if how == "folder":
        checkpoint.mkdir()
    elif how in ("empty", "cut", "text"):
        checkpoint.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "text": b"no checkpoint"}[how])
    elif how == "foreign":
        torch.save(state["state_dict"], checkpoint)
    elif how == "code":
        torch.save({**state, "global_step": Trap()}, checkpoint)
    elif how == "hidden_code":  # beside everything that is expected
        torch.save({**state, "more": [{"deeper": Trap()}]}, checkpoint)
    elif how == "larger":
        more = {"model.blocks.7.weight": torch.ones(2)}
        torch.save({**state, "state_dict": {**state["state_dict"], **more}}, checkpoint)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a run, a sweep, broken copies of both, and files of rows."""
    folder = tmp_path_factory.mktemp("place")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run(["train", *TINY.split(), "task.num_nodes=10", "hydra.run.dir=run"]) == 0
        words = ["-m", *TINY.split(), "sweep=s", "seed=1", "hydra.sweep.dir=sweep", "hydra/launcher=basic"]
        assert run(["train", *words]) == 0
        write_files()
    return folder


def write_files():
    for name, content in FILES.items():
        Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    results = json.loads(Path("run/results.json").read_text())
    config = results["config"]
    call = {**config, "task": {"_target_": "os.mkdir", "path": "trapped"}}
    broken = {
        "cut": json.dumps(results)[:-9],
        "empty": "",
        "list": "[]",
        "later": json.dumps({**results, "schema_version": 2}),
        "key": json.dumps({**results, "verdct": "solved"}),
        "bare": json.dumps({**results, "config": {}}),
        "call": json.dumps({**results, "config": call}),
    }
    for name, text in broken.items():
        Path(shutil.copytree("run", f"results_{name}"), "results.json").write_text(text)
    shutil.copytree("run", "results_folder")
    Path("results_folder/results.json").unlink()
    Path("results_folder/results.json").mkdir()
    for name, text in {"cut": "", "text": "hydra: [}"}.items():
        copy = Path(shutil.copytree("run", f"hydra_{name}"))
        (copy / "results.json").unlink()
        (copy / ".hydra" / "hydra.yaml").write_text(text)
    (cell,) = (path.parent.name for path in Path("sweep").glob("*/results.json"))
    for name, file, text in (
        ("grid_cut", "grid.json", '{"a": ['),
        ("grid_list", "grid.json", "[1]"),
        ("results_cut_in_sweep", f"{cell}/results.json", "{"),
        ("curves_binary", f"{cell}/metrics.csv", "step,a\n1,\0\n"),
    ):
        Path(shutil.copytree("sweep", name), file).write_text(text)
    Path("curves_binary", cell, "results.json").unlink()
    Path("sweep/stray").mkdir()
    for how in CHECKPOINTS:
        spoil(Path(shutil.copytree("run", f"checkpoint_{how}"), "checkpoints", "last.ckpt"), how)


@pytest.fixture
def complaint(place, monkeypatch, capsys):
    """The one line about a wrong command, which wrote nothing."""
    monkeypatch.chdir(place)

    def of(words):
        before = everything()
        code = run(words)
        captured = capsys.readouterr()
        assert everything() == before
        assert code == 2
        assert captured.out == ""
        assert captured.err.startswith("forethought: ")
        assert len(captured.err.splitlines()) == 1
        return captured.err

    return of


def everything():
    return sorted((str(path), path.lstat().st_mtime_ns, path.lstat().st_size) for path in Path().rglob("*"))


@pytest.mark.parametrize(("words", "message"), TRAIN, ids=[words for words, _ in TRAIN])
def test_train(complaint, words, message):
    smoke = [] if "experiment=" in words or "model=" in words else TINY.split()
    assert message in complaint(["train", *smoke, *words.split()])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
@pytest.mark.parametrize(("words", "message"), NO_GPU, ids=[words for words, _ in NO_GPU])
def test_hardware_that_is_not_here(complaint, words, message):
    assert message in complaint(["train", *TINY.split(), words])


@pytest.mark.parametrize("word", ["", " "])
def test_an_empty_word(complaint, word):
    assert f"{word!r}: cannot be read; expected KEY=VALUE" in complaint(["train", word])


@pytest.mark.parametrize(("words", "message"), FOLDERS, ids=[words for words, _ in FOLDERS])
def test_folders(complaint, words, message):
    assert message in complaint(words.split())


@pytest.mark.parametrize("how", CHECKPOINTS)
@pytest.mark.parametrize(
    "command", ["evaluate checkpoint_{}", "train task.num_nodes=10 init_from=checkpoint_{} " + TINY]
)
def test_checkpoints(complaint, command, how):
    """None of them is executed, and each is named by its path."""
    line = complaint(command.format(how).split())
    assert f"checkpoint_{how}" in line
    assert CHECKPOINTS[how] in line


def test_the_table_is_long():
    assert len(TRAIN) + len(FOLDERS) >= 200
    assert len({words for words, _ in TRAIN + FOLDERS}) == len(TRAIN + FOLDERS)
