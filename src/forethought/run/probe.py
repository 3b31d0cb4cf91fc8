"""How long a run would take, from a few of its steps."""

import time

import torch

from forethought.evaluation import diagnose
from forethought.run.build import Config, build
from forethought.tasks import Data

_WARM_UP, _STEPS = 2, 8


def seconds_of_run(config: Config) -> float:
    """Seconds to `max_steps`, evaluations included; a solved run stops earlier."""
    parts = build(config)
    settings, hardware = parts.settings, parts.hardware
    hardware.limit_threads()
    data = Data(parts.task, settings.seed, settings.batch_size, hardware.device)
    device = "cuda" if hardware.on_gpu else "cpu"
    objective = parts.objective.to(device)
    optimizer = objective.make_optimizer(objective, settings.max_steps)["optimizer"]
    for step in range(_WARM_UP + _STEPS):
        if step == _WARM_UP:
            began = time.perf_counter()
        with torch.autocast(device, torch.bfloat16, enabled=hardware.precision == "bf16"):
            loss = objective.loss(data.batch(step))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    a_step = (time.perf_counter() - began) / _STEPS
    began = time.perf_counter()
    diagnose(objective, data.validation(settings.evaluation.validation_samples), clever_hans=False)
    an_evaluation = time.perf_counter() - began
    return settings.max_steps * (a_step + an_evaluation / settings.eval_every)
