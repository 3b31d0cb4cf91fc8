"""Optimizers: any `torch.optim.Optimizer`, with our schedule and decay groups around it."""

from forethought.optimizers.factory import ClipGradients, OptimizerFactory, split_by_decay
from forethought.optimizers.muon import Muon

__all__ = ["ClipGradients", "Muon", "OptimizerFactory", "split_by_decay"]
