"""Floating-point operations of a training step, counted while it runs."""

import copy
import logging
import math
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from forethought.errors import describe_error
from forethought.objectives import Objective
from forethought.tasks import Batch

log = logging.getLogger(__name__)

_ROWS = 4
_Shape = Sequence[int]


def count_flops(objective: Objective, batch: Batch, fake: bool = False) -> float | None:
    """Return the floating-point operations of the loss of a batch and of its gradients.

    Counts what PyTorch's counter counts: matrix products, attention (all of it, also under a causal mask)
    and convolutions, and in addition LSTMs. Additions and element-wise functions are left out, and so is
    the optimizer. Whatever a loss does counts: further passes, frozen copies, sampled answers. A loss that
    changes with `Objective.steps` is counted in its last form.

    The step is taken on a CPU with a few of the rows, by a copy of the objective, so that the number is the
    same on every device.

    Args:
        fake: take the step with shapes alone (PyTorch's fake tensors), which costs a large model no more than
            a small one. The number is the same. A loss that looks at values is then computed after all.

    Returns:
        None if the loss cannot be computed outside a Trainer.
    """
    rows = batch[:_ROWS]
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an objective that logs a metric of its own
        counted = None
        if fake:
            with suppress(Exception):  # of many kinds, by what looks at a value
                counted = _count_fake(objective, rows)
        try:
            counted = counted or _count(copy.deepcopy(objective), rows)
        except Exception as error:
            log.warning("training_flops unknown: the loss fails outside a Trainer: %s", describe_error(error))
            return None
    return counted * len(batch) / len(rows)


def _count_fake(objective: Objective, rows: Batch) -> int:
    mode = FakeTensorMode(allow_non_fake_inputs=True)  # such as a mask that is kept outside the module
    with FakeCopyMode(mode):
        copied = copy.deepcopy(objective)
        faked = copy.deepcopy(rows)
    with mode:
        return _count(copied, faked)


def _count(objective: Objective, rows: Batch) -> int:
    with FlopCounterMode(display=False, custom_mapping=_FORMULAS) as counter:
        objective.loss(rows).backward()
    return counter.get_total_flops()


def _convolution_backward(gradient: _Shape, x: _Shape, weight: _Shape, *_: Any, **__: Any) -> int:
    """Twice the forward pass. PyTorch's formula overlooks the groups of a depthwise convolution."""
    return 2 * 2 * math.prod(gradient) * math.prod(weight[1:])


def _lstm(x: _Shape, input_weight: _Shape, hidden_weight: _Shape, *_: Any, **__: Any) -> int:
    return 2 * math.prod(x[:2]) * (math.prod(input_weight) + math.prod(hidden_weight))


_aten = torch.ops.aten
_FORMULAS: dict[Any, Callable[..., int]] = {
    _aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda gradient, q, k, v, *_, **__: (
        sdpa_backward_flop_count(gradient, q, k, v)
    ),
    _aten.convolution_backward: _convolution_backward,
    _aten.mkldnn_rnn_layer: _lstm,
    _aten.mkldnn_rnn_layer_backward: lambda *shapes, **_: 2 * _lstm(*shapes),
}
"""Operations of a CPU that PyTorch's counter does not know, or counts wrongly."""
