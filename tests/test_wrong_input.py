"""Wrong input: one line that names what is wrong and what is accepted, exit code 2, nothing written.

A row of a table is: words of the command | fragments of the message, separated by `, ` | the key=value or
path that the message names. Without a third column that is the last word, or its key alone if the message
is "no such key". The wording between the fragments is free.
"""

import functools
import gzip
import json
import os
import re
import shutil
from pathlib import Path

import pytest
import torch

from forethought.cli.main import run
from forethought.config import compose

TINY = "experiment=smoke model.layers=1 model.width=16 model.heads=2"

GRAPH = "1,2|2,3|3,4|1,5|5,6|6,0/1,4=1,2,3,4\n"
FILES = {
    "bad.txt": GRAPH + "1,2|1,3/1,2=1,x\n",
    "mixed.txt": GRAPH + "1,2|1,3/1,2=1,2\n",
    "empty.txt": "",
    "blank.txt": GRAPH + "\n" + GRAPH,
    "spaces.txt": GRAPH + GRAPH + " \t\r\n\r\n" + GRAPH,
    "nothing.txt": "\n  \r\n\n",
    "binary.txt": b"\xff\xfe\x00\x80",
    "latin1.txt": "é\n".encode("latin1"),
    "utf16.txt": GRAPH.encode("utf16"),
    "rows.gz": gzip.compress(GRAPH.encode()),
    "arity.txt": GRAPH.replace("1,2|", "1,2,9|"),
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

EXPERIMENTS = {
    "no_package": "max_steps: 7\n",
    "no_package_but_override": "defaults:\n  - override /model: lstm\n",
    "no_override": "# @package _global_\ndefaults:\n  - /model: lstm\n",
    "no_slash": "# @package _global_\ndefaults:\n  - model: lstm\n",
    "override_no_slash": "# @package _global_\ndefaults:\n  - override model: lstm\n",
}

ROOTS = {"list": "# a\n- config\n", "scalar": "42\n", "lost": "defaults:\n  - nothing\n"}

CALLBACKS = "lightning.pytorch.callbacks"
GROUPS = f"""
task=nothing | no such choice, addition, path_star
task=pathstar | no such choice, addition, did you mean path_star
model=gtp | no such choice, gpt, mamba
objective=teacherles | did you mean teacherless
objective=next-token | did you mean next_token
optimizer=adam | no such choice, muon, did you mean adamw
hardware=tpu | no such choice, auto, cpu, gpu, multi_gpu
logger=tensorbord | no such choice, csv, wandb, did you mean tensorboard
callbacks=nothing | no such choice
experiment=smok | no such choice, quickstart
hydra/launcher=nothing | no such choice, basic, pool
task= | no such choice, addition, path_star
task=null | addition, path_star
=3 | cannot be read, KEY=VALUE
= | cannot be read, KEY=VALUE
task=path_star,addition | several values, -m
+task=addition | already, task=CHOICE | +task
model@x=gpt | no such group | model@x
~task | missing | task
evaluation=3 | evaluation.KEY=VALUE
task._target_=no.such.Class | cannot be imported
task._target_=os.path | forethought.tasks.base.Task
task._target_=os.getcwd | forethought.tasks.base.Task
objective._target_=builtins.dict | forethought.objectives.base.Objective
model._target_=torch.tensor | forethought.models.base.Model
optimizer._target_=builtins.dict | torch.optim.optimizer.Optimizer
optimizer._target_=torch.optim.SGD | no such key, lr, momentum, warmup_steps | optimizer.betas
optimizer._target_=torch.optim.SGD ~optimizer.betas +optimizer.nesterov=true | SGD, momentum | optimizer
logger._target_=builtins.dict | lightning.pytorch.loggers.logger.Logger
callbacks.x=3 | callbacks.x._target_
callbacks.x._target_=builtins.dict | lightning.pytorch.callbacks.callback.Callback
callbacks.x._target_={CALLBACKS}.Timer callbacks.x.nope=1 | no such key, duration
callbacks.x._target_={CALLBACKS}.LearningRateMonitor callbacks.x.logging_interval=x | epoch | callbacks.x
"""

KEYS = """
task.dgree=3 | no such key, degree, path_length
task.lenght=3 | no such key, did you mean path_length
steps=5 | no such key, did you mean max_steps
learning_rate=1 | no such key, task, model, objective
optimizer.learning_rate=1 | no such key, lr, betas
objective.horizon=2 | no such key, none
task=addition task.degree=3 | no such key, digits, order
evaluation.test_sample=9 | no such key, did you mean test_samples
seed.x=3 | no such key, none
+foo=1 | no such key, batch_size
+task.foo=1 | no such key, degree
++task.dgree=1 | no such key, degree
+model.vocabulary_size=5 | no such key, layers
+model.token_names=[a] | no such key, layers
+task.degree=3 | already, task.degree=… | +task.degree
~task.foo | no such key
~seed | missing, seed=VALUE | seed
trainer.max_epochs=3 | not supported, max_steps
trainer.precision=16 | not supported, precision
trainer.plugins=null | not supported
trainer.nope=1 | no such key, profiler, detect_anomaly
hydra.foo=3 | not supported, hydra.run, hydra.sweep
hydra.job.chdir=maybe | bool
hydra.job.chdir=true | not supported
hydra.run.dir= | path of a folder
hydra.run.dir=bad.txt | File exists | bad.txt
hydra.run.dir=bad.txt/x | Not a directory | bad.txt/x
hydra.run.dir=run seed=5 | path_star-2x4-gpt-1x16-next_token-s0 | run: holds
hydra.run.dir=unfinished seed=5 | path_star-2x4-gpt-1x16-next_token-s0, force=true | unfinished: holds
hydra.run.dir=cell_cut | corrupt | cell_cut/.hydra/cell.json
"""

VALUES = """
task.degree=abc | integer
task.degree=2.5 | integer
task.degree= | integer
task.degree=null | integer
task.degree=true | integer
task.degree=0 | out of range, at least 1
task.degree=2,3 | several values, -m
task.degree=??? | missing
task.path_length=1 | out of range, at least 2
task.num_nodes=99999999999 | out of range, at most 10000
task.num_nodes=${nothing} | nothing | task.num_nodes
task.edge_order=sorted | shuffled, by_arm, arms_permuted
task.reverse=1 | true or false
task.train_samples=0 | out of range, above 0
task.train_samples=99999999999 | out of range, at most 10000000
task=addition task.digits=99 | out of range, at most 17
task=addition task.order=revresed | plain, did you mean reversed
model.layers=0 | out of range, above 0
model.heads=0 | out of range, above 0
model.mask=diagonal | causal, prefix, full
model=mamba model.backend=triton | auto, torch, mamba_ssm
objective=multi_token objective.horizon=0 | out of range, above 0
objective=teacherless objective.next_token_weight=2 | out of range, below 1.0
objective=masked_next_token objective.rate=2 | out of range, at most 1.0
objective=plan_tokens objective.tokens=abc | integer
objective=plan_tokens objective.tokens=-50 | out of range, above 0
optimizer.lr=0 | out of range, above 0.0
optimizer.lr=fast | number
optimizer.lr=inf | finite number
optimizer.lr=nan | finite number
optimizer.betas=[0.9] | 2 values
optimizer.betas=[0.9,1.5] | out of range, below 1.0 | optimizer.betas.1=1.5
optimizer.schedule=step | constant, cosine
precision=fp8 | fp32, bf16
hardware.devices=0 | out of range, above 0
hardware.devices=-1 | out of range, above 0
hardware.threads=0 | out of range, auto, above 0
hardware.compile=maybe | auto, reduce-overhead, true or false
hardware.accelerator=cuda | auto, cpu, gpu
logger.project=x | no such key, none
logger=wandb logger.mode=loud | auto, online, offline
logger=wandb logger.mode=online | API key, wandb login
logger=wandb logger.project=a/b | matches
logger=wandb logger.finish_timeout=0 | out of range, above 0.0
seed=-1 | out of range, at least 0
seed= | integer
max_steps=1e4 | integer | max_steps=10000.0
batch_size=0 | out of range, above 0
batch_size=99999999999 | out of range, at most 10000000
solve_threshold=2 | out of range, at most 1.0
stop_when_solved=maybe | true or false
dry_run=1 | true or false
force=maybe | true or false
evaluation.temperature=-1 | out of range, at least 0.0
evaluation.decoding=beams | greedy, sample, beam, best_of_k
evaluation.top_p=0 | out of range, above 0.0
evaluation.beams=0 | out of range, above 0
evaluation.probe_samples=99 | at least 100, 0 for none
evaluation.probe_samples=-1 | out of range, at least 0
evaluation.test_samples=99999999999 | out of range, at most 10000000
sweep= | letters, digits
"""

TOGETHER = """
task.num_nodes=3 | G(2,4), 7
task.degree=1 task.path_length=2 task.num_nodes=2 | too few different instances | task
experiment=smoke model.layers=1001 | out of range, at most 1000
experiment=smoke model.width=1000000000 | memory | model
experiment=smoke model.width=65 | not supported, model.heads=4, multiple of 4
experiment=smoke model.positions=rotary model.width=12 | not supported, multiple of 8
model=mamba2 model.head_width=7 | not supported, model.expand=2, divisor of 128
model.mask=full | not supported, NextToken, causal, prefix
model=lstm model.mask=prefix | not supported, LSTM, causal
model=mamba objective=any_order | Mamba, positions, gpt | model
evaluation.temperature=0.7 | no effect, evaluation.decoding=greedy, sample or best_of_k
objective=teacherless evaluation.decoding=beam | not supported, Teacherless, greedy or sample
objective=multi_token objective.horizon=9 | out of range, at most 4
objective=joint_multi_token objective.heads=3 | divisor, model.width=16
objective=teacherless objective.next_token_weight=0.5 model.mask=full | not supported, causal, prefix
hardware.devices=3 | multiple, hardware.devices=3 | batch_size=16
task.train_samples=1 hardware=cpu hardware.devices=2 | at least, hardware.devices=2 | task.train_samples=1
init_from=nowhere | checkpoints/last.ckpt, folder of a run
task.num_nodes=10 init_from=run model.layers=2 | blocks.1 | run/checkpoints/last.ckpt
init_from= | not empty
init_from=3 | string
"""

DATA = """
task.test_file=missing.txt | No such file
task.test_file=. | folder, regular text file
task.train_file=/dev/null | regular text file
task.test_file=fifo | not a regular file, regular text file
task.test_file=rows.gz | not a text file, regular text file, uncompressed
task.train_file=utf16.txt | not a text file
task.test_file=3 | string
task.train_file=empty.txt | empty, one row per line
task.test_file=blank.txt | line 2: blank, line 3
task.train_file=spaces.txt | line 3: blank, line 5
task.test_file=nothing.txt | empty, one row per line
task.test_file=binary.txt | not a text file
task.train_file=latin1.txt | not a text file
task.test_file=bad.txt | line 2: '1,2|1,3/1,2=1,x', a,b|c,d
task.test_file=mixed.txt | line 2, 2 nodes, 4 nodes
task.test_file=arity.txt | line 1: '1,2,9|2,3
task.test_file=outside.txt | line 1, node 10, out of range, 0…6
task.test_file=negative.txt | line 1, node -7, out of range, 0…6
task.test_file=huge.txt | line 1: '1,2|2,3|3,4|1,5|5,6|6,999999999999999999'
task.test_file=twice.txt | line 1, star, 2 arms of 4 nodes
task.test_file=cycle.txt | line 1, star, 2 arms of 4 nodes
task.test_file=answer.txt | line 1, 1,5,6,0, path from 1 to 4
task.test_file=goal.txt | line 1, 1,2,3,4, path from 1 to 0
task.test_file=crlf.txt | line 2: 'x'
task.test_file=bom.txt | line 2: 'x'
task=addition task.test_file=sum.txt | line 1, 0012+0034=00047
task=addition task.test_file=sizes.txt | line 1: '012+034=0046', a+b=sum, 4 digits
"""

SYNTAX = """
model.layers | cannot be read, KEY=VALUE
seed=[1 | cannot be read, KEY=VALUE
seed==3 | cannot be read, KEY=VALUE
--flag | unrecognized
--config-dir=nope | no such folder
--config-name=nope | no such file, conf
--config-dir=my_conf --config-name=nope | no such file, --config-dir
--config-dir=my_conf --config-name=my_conf/root | no such file, --config-dir
--config-dir=my_conf --config-name=list | line 2 | my_conf/list.yaml
--config-dir=my_conf --config-name=scalar.yaml | line 1 | my_conf/scalar.yaml
--config-dir=my_conf --config-name=lost | no such file | defaults: nothing
--config-path=x | unrecognized
--experimental-rerun=x | unrecognized
--package=task | --cfg | --package
--cfg=nope | 'nope', job | --cfg
--cfg=job task.dgree=3 | no such key
--resolve | --cfg
--config-dir=my_conf experiment=no_package | # @package _global_
--config-dir=my_conf experiment=no_package_but_override | # @package _global_
--config-dir=my_conf experiment=no_override | - override /model: CHOICE | model
--config-dir=my_conf experiment=no_slash | - override /model: lstm | experiment/model=lstm
--config-dir=my_conf experiment=override_no_slash | - override /model: CHOICE
hydra.output_subdir=null | not supported, hydra.run
seed=range(3) | several values, -m
-m --cfg=job | -m | --cfg
-m seed=1, | cannot be read, KEY=VALUE
-m seed=1,x | integer | seed=x
-m task.degree=0,1 | out of range, at least 1 | task.degree=0
-m task=path_star,additon | no such choice, path_star, did you mean addition | task=additon
-m seed=range(0) | no values
-m seed=range(3 | cannot be read, KEY=VALUE
-m seed=range(1,5,0) | zero
-m seed=interval(1,5) | requires hydra/sweeper=optuna
-m objective=glob(x*) | no values
-m task.num_nodes=3,4 | 7 | task.num_nodes=3
-m task=path_star,null | addition, path_star | task=null
-m objective=next_token objective.horizon=2,3 | no such key, none
-m objective=next_token,multi_token objective.horizn=2,3 | no such key, multi_token,next_token
-m objective=next_token,multi_token task.horizon=2 | no such key, degree
-m seed=0,1 hardware.threads=1,2 | path_star-2x4-gpt-1x16, sweep=NAME | hardware.threads=1, hardware.threads=2
-m hardware=cpu,gpu | hardware=gpu, sweep=NAME | hardware=cpu
-m sweep=a/b | letters, digits
-m sweep=.. | letters, digits
-m sweep=a,b | multirun/a, multirun/b | sweep
-m hydra.sweep.dir= | path of a folder
-m hydra.sweep.dir=bad.txt | File exists | bad.txt
-m seed=1,2 hydra.sweep.subdir=x | not supported
-m hydra.job.chdir=true | not supported
-m hydra/sweeper=nothing | no such choice, basic
-m hydra.launcher.workers=0 | out of range, above 0
-m hydra.launcher.worker=1 | no such key, did you mean workers
-m hydra.launcher.workers=two | integer
-m hydra.launcher.stop_after=-1 | out of range, above 0
-m hydra/launcher=nothing | basic, pool, ray, submitit_local, submitit_slurm
-m hydra/launcher=submitit_slurm | srun
-m hydra/launcher=submitit_slurm hydra.launcher.partion=x | no such key, partition
-m hydra/launcher=submitit_slurm hydra.launcher.timeout_min=soon | integer
-m hydra/launcher=submitit_local hydra.sweep.dir=out/%j | folders without % | out/%j/.submitit/%j
-m hydra/launcher=submitit_local hydra.launcher.submitit_folder=%A | folders without %
-m hydra/launcher=ray hydra.launcher.init.address=127.0.0.1:1 | no Ray
-m hydra/launcher=ray hydra.launcher.remote=3 | dictionary
-m hydra.launcher._target_=os.getcwd | Launcher
"""

SEARCH = """
hydra.sweeper.storage=nowhere:x | sqlite
hydra.sweeper.trials=3 | no such key, n_trials
hydra.sweeper.n_trials=0 | out of range, above 0
dry_run=true | grid
task.dgree=2,3 | no such key, degree
objective=next_token,multi_token objective.horizn=1,2 | no such key
hydra.sweeper.sampler._target_=os.getcwd | BaseSampler
"""

NO_GPU = """
hardware=gpu | CUDA, cpu, auto | hardware.accelerator=gpu
hardware=multi_gpu | CUDA, cpu, auto | hardware.accelerator=gpu
"""

# What exists: run, sweep, and copies of them that are broken in one place.
FOLDERS = """
nothing | no such command, train, status, resume, evaluate, report
trian | did you mean train
--halp | no such command
status | FOLDER
status sweep sweep | unrecognized
status --all sweep | unrecognized | --all
status sweep --watch --json | --watch
status sweep/stray | grid.json
status nowhere | no such folder, folder of a sweep
status . | grid.json, folder of a sweep
status bad.txt | no such folder, folder of a sweep
status grid_cut | corrupt | grid_cut/grid.json
status grid_list | corrupt | grid_list/grid.json
status curves_binary | corrupt, step | metrics.csv
status results_cut_in_sweep | corrupt | results.json
resume | FOLDER
resume nowhere | no run has begun, folder of a sweep or run
resume . | no run has begun | place
resume bad.txt | no run has begun, folder of a sweep or run
resume sweep/stray | grid.json, run or a sweep
resume grid_cut | corrupt | grid_cut/grid.json
resume cell_cut | corrupt | cell_cut/.hydra/cell.json
resume cell_text | corrupt | cell_text/.hydra/cell.json
resume cell_list | corrupt | cell_list/.hydra/cell.json
resume results_cut | corrupt | results_cut/results.json
resume run nonsense | cannot be read, KEY=VALUE
resume run max_stps=40 | no such key, did you mean max_steps
resume run seed=[1 | cannot be read, KEY=VALUE
resume run seed=1,2 | several values
resume run task=nothing | no such choice, addition, path_star
resume run max_steps=-1 | out of range, at least 0
resume run model.layers=2 | model.blocks.1 | run/checkpoints/last.ckpt
resume run --flag | unrecognized
resume sweep seed=1,2 | several values
resume sweep seed=x | integer
resume sweep task.dgree=3 | no such key, did you mean degree
resume sweep hydra.nope=3 | not supported, hydra.run
resume sweep hydra/launcher=nothing | no such choice, basic, pool
resume sweep max_steps=40 hydra/launcher=pool hydra.launcher.workers=0 | out of range, above 0
report | SOURCE
report run --all | unrecognized
report sweep --where=nothing=1 | unknown, cell, sweep, setting | nothing
report sweep --where=seed> | COLUMN = VALUE | --where='seed>'
report sweep --metric=nothing | unknown, solved
report sweep --x=nothing | unknown, none
report sweep --where=seed>9 | none of 1 runs | --where='seed>9'
report nowhere | no such folder, sweep or of a run
report nowhere.csv | No such file, CSV file of runs
report run/metrics.csv --out=copy | column cell is missing, status, verdict, seed | run/metrics.csv
report sweep/stray | no results
report results_cut | corrupt | results_cut/results.json
report results_later | schema_version 1 | results_later/results.json
evaluate | RUN
evaluate nowhere | results.json, folder of a finished run
evaluate sweep | results.json, folder of a finished run
evaluate bad.txt | results.json, folder of a finished run
evaluate results_cut | corrupt | results_cut/results.json
evaluate results_empty | corrupt | results_empty/results.json
evaluate results_list | dictionary | results_list/results.json
evaluate results_later | schema_version 1 | results_later/results.json
evaluate results_key | verdct | results_key/results.json
evaluate results_folder | Is a directory | results_folder/results.json
evaluate results_bare | task=CHOICE | task=null
evaluate results_call | forethought.tasks.base.Task | task._target_=os.mkdir
evaluate run task.num_nodes=20 | 24 tokens, 14, same vocabulary | task
evaluate run task.path_length=5 | 25, shorter task, model.positions=rotary | model.positions=learned
evaluate run task.degree=9 | G(9,4), 28 | task.num_nodes=10
evaluate run task=addition | task.KEY=VALUE
evaluate run task.dgree=3 | no such key, degree
evaluate run task.degree=x | integer
evaluate run task.degree= | integer
evaluate run task.reverse=yes | true or false
evaluate run task.test_file=bad.txt | line 2
evaluate run task.test_file=missing.txt | No such file
evaluate run task.test_file=fifo | regular text file
evaluate run seed=1,2 | KEY=VALUE, task, evaluation, hardware, seed
evaluate run seed=[1 | cannot be read, KEY=VALUE
evaluate run seed.x=1 | no such key, none
evaluate run +seed=1 | KEY=VALUE, task, evaluation, hardware
evaluate run model.layers=3 | KEY=VALUE, task, evaluation, hardware
evaluate run hardware.threads=0 | out of range, auto, above 0
evaluate run evaluation.beams=2 | no effect, evaluation.decoding=greedy, beam
evaluate run --flag | unrecognized
"""

CHECKPOINTS = {
    "missing": "checkpoints/last.ckpt",
    "folder": "checkpoints/last.ckpt",
    **dict.fromkeys(["empty", "cut", "text", "foreign", "code", "hidden_code"], "last.ckpt: corrupt"),
    "larger": "blocks.7.weight",
}
"""Things in the place of a checkpoint, and a fragment of the message."""


def rows(*tables, slow=()):
    """Parametrize by the lines of these tables, and by those of the `slow` ones for the slow tests."""
    fast, rest = (list(filter(None, "\n".join(part).splitlines())) for part in (tables, slow))
    lines = [*fast, *(pytest.param(line, marks=pytest.mark.slow, id=line.split(" | ")[0]) for line in rest)]
    return pytest.mark.parametrize("row", lines, ids=lambda line: line.split(" | ")[0])


class Trap:
    """Makes a folder if it is unpickled without care."""

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
        # Hydra takes 90 ms to compose, so choices of files that several rows share are composed once.
        patch.setattr(compose, "compose", compose_once(compose.compose))
        assert run(["train", *TINY.split(), "task.num_nodes=10", "hydra.run.dir=run"]) == 0
        words = ["-m", *TINY.split(), "sweep=s", "seed=1", "hydra.sweep.dir=sweep", "hydra/launcher=basic"]
        assert run(["train", *words]) == 0
        write_files()
        yield {"folder": folder, "files": everything()}


def compose_once(hydra_compose):
    cached = functools.cache(lambda name, words: hydra_compose(name, [*words], return_hydra_config=True))
    return lambda name, words, return_hydra_config: cached(name, tuple(words))


def write_files():
    for name, content in FILES.items():
        Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    os.mkfifo("fifo")
    Path("link").symlink_to("/dev/stdin")
    Path("my_conf/experiment").mkdir(parents=True)
    for name, text in EXPERIMENTS.items():
        Path(f"my_conf/experiment/{name}.yaml").write_text(text)
    for name, text in ROOTS.items():
        Path(f"my_conf/{name}.yaml").write_text(text)
    results = json.loads(Path("run/results.json").read_text())
    call = {**results["config"], "task": {"_target_": "os.mkdir", "path": "trapped"}}
    for name, text in {
        "cut": json.dumps(results)[:-9],
        "empty": "",
        "list": "[]",
        "later": json.dumps({**results, "schema_version": 2}),
        "key": json.dumps({**results, "verdct": "solved"}),
        "bare": json.dumps({**results, "config": {}}),
        "call": json.dumps({**results, "config": call}),
    }.items():
        Path(shutil.copytree("run", f"results_{name}"), "results.json").write_text(text)
    for name in ("results_folder", "unfinished", "cell_cut", "cell_text", "cell_list"):
        Path(shutil.copytree("run", name), "results.json").unlink()
    Path("results_folder/results.json").mkdir()
    for name, text in {"cut": "", "text": '{"name": }', "list": "[]"}.items():
        Path(f"cell_{name}/.hydra/cell.json").write_text(text)
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
    """Run a wrong command. Return its one line, after checking that nothing else was written."""
    monkeypatch.chdir(place["folder"])
    monkeypatch.setenv("NETRC", "no-netrc")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: None)  # as where there is no Slurm

    def complain(words):
        before, code = place["files"], run(words)
        captured = capsys.readouterr()
        place["files"] = everything()
        assert place["files"] == before
        assert code == 2
        assert captured.out == ""
        (line,) = captured.err.splitlines()
        assert line.startswith("forethought: ")
        return line.removeprefix("forethought: ")

    return complain


def everything():
    return sorted((str(path), path.lstat().st_mtime_ns, path.lstat().st_size) for path in Path().rglob("*"))


def assert_row(row, complain, before=()):
    words, fragments, *named = row.split(" | ")
    fragments = fragments.split(", ")
    last = words.split()[-1]
    (named,) = named or [last.lstrip("+~").partition("=")[0] if "no such key" in fragments else last]
    line = complain([*before, *words.split()])
    assert named in line
    rest = line.replace(named, "", 1)
    for fragment in fragments:
        assert re.search(rf"(?<!\w){re.escape(fragment)}(?!\w)", rest), (fragment, line)


@rows(GROUPS, KEYS, SYNTAX, slow=(VALUES, TOGETHER, DATA))
def test_train(complaint, row):
    smoke = [] if "experiment=" in row or "model=" in row.split(" | ")[0] else TINY.split()
    assert_row(row, complaint, ["train", *smoke])


@pytest.mark.parametrize("key", ["task.test_file", "task.train_file"])
@pytest.mark.parametrize("path", ["/dev/stdin", "/dev/fd/0", "/proc/self/fd/0", "/../dev/stdin", "link"])
def test_a_file_of_this_process_alone(complaint, key, path):
    """A redirected stdin is a regular file here, and another file, or none, where a cell runs."""
    stdin = os.dup(0)
    with open("goal.txt") as file:
        os.dup2(file.fileno(), 0)
    try:
        line = complaint(["train", *TINY.split(), f"{key}={path}"])
    finally:
        os.dup2(stdin, 0)
        os.close(stdin)
    assert f"{key}={path}: " in line
    assert "regular text file" in line


@rows(SEARCH)
def test_search(complaint, row):
    pytest.importorskip("optuna")
    assert_row(row, complaint, ["train", "-m", *TINY.split(), "hydra/sweeper=optuna", "seed=0,1"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
@rows(NO_GPU)
def test_hardware_that_is_missing(complaint, row):
    assert_row(row, complaint, ["train", *TINY.split()])


@pytest.mark.parametrize("word", ["", " "])
def test_an_empty_word(complaint, word):
    assert f"{word!r}: cannot be read" in complaint(["train", word])


@rows(FOLDERS)
def test_folders(complaint, row):
    assert_row(row, complaint)


@pytest.mark.parametrize("how", CHECKPOINTS)
@pytest.mark.parametrize(
    "command", ["evaluate checkpoint_{}", "train task.num_nodes=10 init_from=checkpoint_{} " + TINY]
)
def test_checkpoints(complaint, command, how):
    """No checkpoint is executed, and each is named by its path."""
    line = complaint(command.format(how).split())
    assert f"checkpoint_{how}" in line
    assert CHECKPOINTS[how] in line
