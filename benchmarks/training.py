"""Time of a training step, cell against cell.

`python benchmarks/training.py objective=next_token,teacherless …` takes the words of `forethought train -m`.
The cells take turns, a few steps each, in one process and on as many threads as `hardware.threads` says; the
first cell is what the others are compared with. Prints a Markdown table.
"""

import statistics
import sys
import time

from forethought.cli.compose import Composer
from forethought.errors import Impossible
from forethought.run import build
from forethought.tasks import Data

ROUNDS, STEPS = 7, 10


class Trainee:
    """One cell's training loop, without Lightning."""

    def __init__(self, cell):
        parts = build(cell.config)
        parts.hardware.limit_threads()
        self.name = f"{cell.choices['model']} {cell.choices['objective']}"
        self.objective = parts.objective
        self.data = Data(parts.task, parts.settings.seed, parts.settings.batch_size)
        self.optimizer = self.objective.make_optimizer(self.objective, 1000)["optimizer"]
        self.step = 0

    def seconds(self, steps):
        """Per step."""
        began = time.perf_counter()
        for _ in range(steps):
            self.objective.loss(self.data.batch(self.step)).backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.step += 1
        return (time.perf_counter() - began) / steps


def main(words):
    trainees = []
    for cell in Composer(["-m", "hardware=cpu", *words]).cells():
        try:
            trainees.append(Trainee(cell))
        except Impossible as error:
            print(f"left out: {error}", file=sys.stderr)
    for trainee in trainees:
        trainee.seconds(3)
    rounds = [[trainee.seconds(STEPS) for trainee in trainees] for _ in range(ROUNDS)]
    print(
        "| cell | parameters | seconds per 1,000 steps | times the first (least to most) |\n|---|---|---|---|"
    )
    for index, trainee in enumerate(trainees):
        own = statistics.median(times[index] for times in rounds)
        ratios = sorted(times[index] / times[0] for times in rounds)
        parameters = sum(p.numel() for p in trainee.objective.parameters() if p.requires_grad)
        middle = statistics.median(ratios)
        print(
            f"| {trainee.name} | {parameters:,} | {1000 * own:.1f} | "
            f"{middle:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) |"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
