"""Time of a training step, cell against cell.

`python benchmarks/training.py objective=next_token,teacherless …` takes the words of `forethought train -m`.
What follows a `--` makes further cells: `COMMON -- model=gpt model.layers=4 -- model=pretrained
model.name=PATH`. The cells take turns, a few steps each, in one process, in fp32, eager and on one thread,
whatever `auto` would pick; the first cell is what the others are compared with.
"""

from __future__ import annotations

import statistics
import sys
from functools import partial
from importlib.util import find_spec
from tempfile import TemporaryDirectory

from measuring import Section, ratios, spread, table, take_turns

from forethought.config import Composer
from forethought.errors import Impossible
from forethought.sweeps import Cell
from forethought.tasks import Data
from forethought.training import build

ROUNDS, STEPS = 7, 10
PLAIN = ["hardware=cpu", "hardware.precision=fp32", "hardware.compile=false", "hardware.threads=1"]
COMMON = "seed=0 batch_size=64 task.degree=2 task.path_length=5 task.num_nodes=50"
MODELS = "model=gpt,looped_gpt,infini_gpt,lstm,mamba,mamba2 model.layers=4 model.width=96"
OBJECTIVES = (
    "experiment=proving_ground seed=0 objective=next_token,any_order,belief_state,best_of_k,decision_only,"
    "future_summary,joint_multi_token,lookahead_insertion,masked_diffusion,masked_next_token,multi_token,"
    "myopic,next_latent,plan_tokens,policy_gradient,ranking_into_the_future,register_tokens,scheduled_sampling,"
    "sequential_multi_token,teacherless,token_order"
)


class Trainee:
    """One cell's training loop, without Lightning."""

    def __init__(self, cell: Cell) -> None:
        parts = build(cell.config)
        parts.hardware.limit_threads()
        self.objective = parts.objective
        self.data = Data(parts.task, parts.settings.seed, parts.settings.batch_size)
        self.optimizer = self.objective.make_optimizer(self.objective, 1000)["optimizer"]
        self.done = 0

    def train(self, steps: int) -> None:
        for _ in range(steps):
            self.objective.loss(self.data.batch(self.done)).backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.done += 1


def compare(words: list[str]) -> str:
    """A table of the cells that the words make."""
    common, *groups = " ".join(words).split(" -- ")
    trainees: dict[str, Trainee] = {}
    for group in groups or [""]:
        for cell in Composer(["-m", *PLAIN, *common.split(), *group.split()]).cells():
            try:
                trainees[f"`{cell.choices['model']}`, `{cell.choices['objective']}`"] = Trainee(cell)
            except Impossible as error:
                print(f"left out: {error}", file=sys.stderr)
    calls = {name: partial(trainee.train, STEPS) for name, trainee in trainees.items()}
    take_turns(calls, 1)
    seconds = take_turns(calls, ROUNDS)
    first = next(iter(seconds.values()))
    rows = [
        [
            name,
            f"{sum(p.numel() for p in trainees[name].objective.parameters() if p.requires_grad):,}",
            f"{1000 / STEPS * statistics.median(found):.1f}",
            spread(ratios(found, first)),
        ]
        for name, found in seconds.items()
    ]
    return table(["cell", "parameters", "seconds per 1,000 steps", "times the first (least to most)"], rows)


def models() -> Section:
    with TemporaryDirectory() as folder:
        words = [*COMMON.split(), "--", *MODELS.split()]
        if find_spec("transformers"):
            from transformers import GPT2Config, GPT2LMHeadModel

            # The architecture of GPT-2 at the others' size; what its weights are does not matter here.
            config = GPT2Config(vocab_size=64, n_positions=64, n_embd=96, n_layer=4, n_head=4)
            GPT2LMHeadModel(config).save_pretrained(folder)
            words += ["--", "model=pretrained", f"model.name={folder}"]
        compared = compare(words)
    return Section(
        "Models: a training step as a multiple of the GPT's",
        "Next-token prediction, 4 layers × 96, 64 rows of 31 tokens; `looped_gpt` passes its 4 blocks 3 "
        "times, `pretrained` (where transformers is installed) is a GPT-2 of this size. "
        f"`python benchmarks/training.py {COMMON} -- {MODELS}`",
        compared,
    )


def objectives() -> Section:
    return Section(
        "Objectives: a training step as a multiple of next-token prediction's",
        "GPT of 3 layers × 32, G(3,3), 64 rows of 23 tokens. `best_of_k` and `policy_gradient` train on 8 "
        f"samples a row, so on 512. `python benchmarks/training.py {OBJECTIVES}`",
        compare(OBJECTIVES.split()),
    )


if __name__ == "__main__":
    print(compare(sys.argv[1:]))
