"""How long a run would take, from a few of its steps."""

import time

import torch

from forethought.evaluation import diagnose
from forethought.run.build import Config, build
from forethought.tasks import Data

_WARM_UP, _STEPS = 2, 8


def seconds_of_run(config: Config) -> float:
    """Seconds to `max_steps` with evaluations and the test; a solved run stops earlier."""
    parts = build(config)
    settings, hardware = parts.settings, parts.hardware
    hardware.limit_threads()
    data = Data(parts.task, settings.seed, settings.batch_size, hardware.device)
    device = "cuda" if hardware.on_gpu else "cpu"
    objective = parts.objective.to(device)
    optimizer = objective.make_optimizer(objective, settings.max_steps)["optimizer"]
    for step in range(_WARM_UP + _STEPS):
        if step == _WARM_UP:
            began = _now()
        with torch.autocast(device, torch.bfloat16, enabled=hardware.precision == "bf16"):
            loss = objective.loss(data.batch(step))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    a_step = (_now() - began) / _STEPS
    began = _now()
    diagnose(objective, data.validation(settings.evaluation.validation_samples), clever_hans=False)
    an_evaluation = _now() - began
    # The Clever Hans test decodes every row twice more.
    the_test = 3 * an_evaluation * settings.evaluation.test_samples / settings.evaluation.validation_samples
    return settings.max_steps * (a_step + an_evaluation / settings.eval_every) + the_test


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
