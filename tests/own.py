"""Objectives of users' own, as their bug reports have them."""

from fractions import Fraction
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
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


class Configures(NextToken):
    """Automatic optimization by whatever `configure_optimizers` returns."""

    def __init__(self, model, task, what: str):
        super().__init__(model, task)
        self.what = what

    def configure_optimizers(self):
        one, other = (torch.optim.SGD(self.parameters(), lr=0.1) for _ in range(2))
        schedule = torch.optim.lr_scheduler.StepLR(one, 1)
        return {
            "list": [one, other],
            "tuple": (one, other),
            "dicts": ({"optimizer": one}, {"optimizer": other}),
            "with schedules": ([one, other], [schedule]),
            "none": None,
            "name": "adam",
            "class": torch.optim.SGD,
            "no optimizer": {"lr_scheduler": schedule},
            "one in a list": [one],
            "one with its schedule": ([one], [schedule]),
            "a dict": {"optimizer": one, "lr_scheduler": schedule},
        }[self.what]


class OptimizerIndex(NextToken):
    """As Lightning 1 had several optimizers."""

    def training_step(self, batch, batch_idx, optimizer_idx):
        return super().training_step(batch, batch_idx)


class NoLoss(NextToken):
    def training_step(self, batch, batch_idx):
        return None


class Saves(NextToken):
    """Puts more into its checkpoints."""

    def __init__(self, model, task, what: str = "hyper_parameters", width: int = 3):
        super().__init__(model, task)
        if what == "hyper_parameters":
            self.save_hyperparameters()
        self.what = what

    def setup(self, stage):
        if self.what == "buffer in setup":
            self.register_buffer("late", torch.zeros(2))

    def loss(self, batch):
        if self.what == "buffer in forward":
            self.register_buffer("late", torch.zeros(2))
        return super().loss(batch)

    def on_save_checkpoint(self, checkpoint):
        things = {
            "path": Path("x"),
            "numpy": np.float64(1),
            "function": lambda: 0,
            "fraction": [{"a": Fraction(1, 2)}],
            "plain": {"a": [1, (2.0, "b")], "c": torch.zeros(1)},
        }
        if self.what in things:
            checkpoint["mine"] = things[self.what]
        if self.what == "fewer weights":
            checkpoint["state_dict"].popitem()


class SavesPath(pl.Callback):
    def on_train_batch_start(self, *_):
        self.where = Path("x")

    def state_dict(self):
        return {"where": self.where}


class ReadsValues(NextToken):
    """A constructor that looks at the values of tensors, which the meta device has not."""

    def __init__(self, model, task, how: str, limit: float = 1.0):
        super().__init__(model, task)
        weight = model.embedding.weight
        rates = torch.linspace(0, 1, 4)
        if how == "item":
            self.rates = [rate.item() for rate in rates]
        elif how == "list":
            self.rates = rates.tolist()
        elif how == "numpy":
            self.rates = rates.numpy()
        elif how == "branch" and weight.std() > 9:
            raise ValueError("too large")
        elif how == "assert":
            assert rates.max() <= limit, "beyond the limit"
        elif how == "mixed":
            self.rates = torch.from_numpy(np.ones(4)) + rates
        elif how == "distribution":
            torch.distributions.Categorical(probs=rates)
        elif how == "option" and rates.max() > limit:
            raise ValueError("beyond the limit")
        elif how == "nonzero":
            self.places = rates.nonzero()


class ReadsWeights(torch.optim.SGD):
    def __init__(self, params, lr: float = 0.1):
        params = list(params)
        self.norm = sum(p.norm().item() for p in params)
        super().__init__(params, lr)
