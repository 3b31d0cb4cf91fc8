"""Objectives of users' own, as their bug reports have them."""

import torch

from forethought.objectives import NextToken


class OwnOptimizer(NextToken):
    """Ignores the config's optimizer."""

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Optimizers(NextToken):
    """Manual optimization by several optimizers, each of which makes several steps a batch."""

    def __init__(self, model, task, number: int = 2, steps: int = 1):
        super().__init__(model, task)
        self.automatic_optimization = False
        self.number, self.steps_of_each = number, steps

    def configure_optimizers(self):
        return [torch.optim.SGD(self.parameters(), lr=0.1) for _ in range(self.number)]

    def training_step(self, batch, batch_idx):
        optimizers = self.optimizers()
        for optimizer in optimizers if isinstance(optimizers, list) else [optimizers]:
            for _ in range(self.steps_of_each):
                optimizer.zero_grad()
                self.manual_backward(self.loss(batch))
                optimizer.step()


class NoLoss(NextToken):
    def training_step(self, batch, batch_idx):
        return None
