"""Whether a config can be trained as `replicas`; told before anything starts."""

from __future__ import annotations

import json
from functools import lru_cache
from textwrap import shorten

import torch

from forethought.errors import Impossible
from forethought.run.build import Config, build
from forethought.run.logger import CSV
from forethought.run.optimizer import AdamW
from forethought.run.stack import Stack
from forethought.tasks import Data


def check_replicas(config: Config) -> None:
    """
    Raises:
        Impossible: `replicas` is more than 1 and something in the config has to run alone.
    """
    if (replicas := config.get("replicas", 1)) > 1:
        obstacle = _obstacle(json.dumps({**config, "seed": None}, sort_keys=True))
        if obstacle is not None:
            raise Impossible(f"replicas={replicas}: {obstacle}")


@lru_cache
def _obstacle(config: str) -> str | None:
    """Why runs of this config that differ in their seed cannot train at once; None if they can.

    The loss is tried on two tiny batches: what `torch.vmap` does with it is known to nobody else.
    """
    parts = [build({**json.loads(config), "seed": seed}) for seed in (0, 1)]
    objective, hardware = parts[0].objective, parts[0].hardware
    if type(parts[0].logger) is not CSV:
        return "their curves go to metrics.csv alone; expected logger=csv, or replicas=1"
    if hardware.devices > 1:
        return f"hardware.devices={hardware.devices} share each run; expected 1, or replicas=1"
    if hardware.compile:
        return "they are not compiled; expected hardware.compile=false, or replicas=1"
    if type(objective.make_optimizer) is not AdamW:
        name = type(objective.make_optimizer).__name__
        return f"{name} does not treat every number by itself; expected optimizer=adamw, or replicas=1"
    batch = Data(parts[0].task, seed=0, batch_size=2).batch(0)
    try:
        stack = Stack([each.objective for each in parts])
        with torch.autocast("cpu", torch.bfloat16, enabled=hardware.precision == "bf16"):
            losses = stack([batch, batch])
        losses.sum().backward()
    except Exception as error:
        who = f"{type(objective).__name__} with {type(objective.model).__name__}"
        if "random operation" in str(error):
            return f"{who} draws random numbers in its loss; expected replicas=1"
        instead = "hardware.precision=fp32, or replicas=1" if hardware.precision == "bf16" else "replicas=1"
        return f"{who} cannot be batched over models ({shorten(str(error), 100)}); expected {instead}"
    return None
