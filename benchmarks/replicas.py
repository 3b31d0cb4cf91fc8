"""Time of a training step of R replicas at once, against R single runs.

`python benchmarks/replicas.py 1,4,16 model.layers=2 …` takes how many replicas, then the words of
`forethought train`. One run and the stacks take turns, a few steps each, in one process; on a GPU where
`hardware` (by default `auto`) finds one. Data and clipping count, Lightning and evaluations do not. Prints a
Markdown table.
"""

import statistics
import sys
import time

import torch

from forethought.cli.compose import Composer
from forethought.run import build
from forethought.run.stack import Stack
from forethought.tasks import Data, batches

ROUNDS, STEPS, WARM_UP = 7, 10, 5


class Trainee:
    """A training loop over one run, or over a stack of replicas, without Lightning."""

    def __init__(self, config, replicas):
        parts = [build({**config, "seed": seed}) for seed in range(replicas or 1)]
        self.hardware = parts[0].hardware
        device, rows = self.hardware.device, parts[0].settings.batch_size
        torch.set_num_threads(self.hardware.threads)
        objectives = [each.objective.to(device) for each in parts]
        self.data = [Data(each.task, each.settings.seed, rows, device) for each in parts]
        self.clip_norm = config["optimizer"]["clip_norm"]
        self.optimizer = objectives[0].make_optimizer(objectives[0], 1000)["optimizer"]
        self.module = Stack(objectives) if replicas else objectives[0]
        if replicas:
            self.module.optimize(self.optimizer)
        self.stacked, self.step = bool(replicas), 0

    def loss(self):
        if self.stacked:
            return self.module(batches(self.data, self.step)).sum()
        return self.module(self.data[0].batch(self.step))

    def train_step(self):
        device, low = self.hardware.device.split(":")[0], self.hardware.precision == "bf16"
        with torch.autocast(device, torch.bfloat16, enabled=low):
            loss = self.loss()
        loss.backward()
        if self.stacked:
            self.module.clip_gradients(self.clip_norm)
        else:
            torch.nn.utils.clip_grad_norm_(self.module.parameters(), self.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1

    def seconds(self, steps):
        """Per step, on the GPU waited for."""
        self.wait()
        began = time.perf_counter()
        for _ in range(steps):
            self.train_step()
        self.wait()
        return (time.perf_counter() - began) / steps

    def wait(self):
        if self.hardware.on_gpu:
            torch.cuda.synchronize()


def main(counts, words):
    config = Composer(words).cells()[0].config
    replicas = [0, *(int(count) for count in counts.split(","))]
    trainees = [Trainee(config, count) for count in replicas]
    for trainee in trainees:
        trainee.seconds(WARM_UP)
    rounds = [[trainee.seconds(STEPS) for trainee in trainees] for _ in range(ROUNDS)]
    print(f"{trainees[0].hardware.describe()}, batch {config['batch_size']}\n")
    print("| | seconds per 1,000 steps | times a single run (least to most) | a replica |")
    print("|---|---|---|---|")
    for index, count in enumerate(replicas):
        own = 1000 * statistics.median(times[index] for times in rounds)
        ratios = sorted(times[index] / times[0] for times in rounds)
        middle = statistics.median(ratios)
        name = f"{count} replicas" if count else "a single run"
        print(
            f"| {name} | {own:.1f} | {middle:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) "
            f"| {middle / (count or 1):.2f} |"
        )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
