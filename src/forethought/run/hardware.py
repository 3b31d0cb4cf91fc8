"""The machine a run uses; nothing here changes what is computed, only how fast."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any, Literal

import torch
from lightning.pytorch.plugins.environments import LightningEnvironment
from pydantic import PositiveInt
from torch import nn

from forethought.errors import InputError
from forethought.validation import validated_dataclass

# Where each begins to pay on a CPU: docs/PERFORMANCE.md, "What `auto` stands for".
_BF16_WIDTH = 64
_COMPILE_FLOP = 2e13  # of a whole run: minutes of it, against the better part of one to compile
_THREADS_FLOP = 5e9  # of a step: tens of milliseconds


@validated_dataclass
class Hardware:
    """
    Args:
        accelerator: `auto` takes a CUDA GPU where there is one.
        devices: number of processes, each with its share of every batch (DDP from 2 on).
        precision: of the arithmetic; weights and optimiser state stay fp32.
        compile: `torch.compile` the model.
        threads: CPU threads of each process.
        cuda_graph: launch each step's loss and gradients as one, see `CaptureGradients`; one GPU.

    `auto` of precision, compile and threads: see `fitted`.

    Raises:
        InputError: fewer GPUs than asked for, or a CUDA graph on none or on several.
    """

    accelerator: Literal["auto", "cpu", "gpu"]
    devices: PositiveInt
    precision: Literal["auto", "fp32", "bf16"]
    compile: Literal["auto"] | bool
    threads: Literal["auto"] | PositiveInt
    cuda_graph: bool = False

    def __post_init__(self) -> None:
        available = torch.cuda.device_count()
        if self.accelerator == "gpu" and available == 0:
            raise InputError("hardware.accelerator=gpu: torch sees no CUDA device here; expected cpu or auto")
        if self.on_gpu and self.devices > available:
            raise InputError(
                f"hardware.devices={self.devices}: torch sees {available} CUDA devices; "
                f"expected at most {available}"
            )
        if self.cuda_graph and not (self.on_gpu and self.devices == 1):
            raise InputError("hardware.cuda_graph=true: takes one GPU, hardware=gpu; expected false")

    @property
    def on_gpu(self) -> bool:
        return self.accelerator == "gpu" or (self.accelerator == "auto" and torch.cuda.is_available())

    @property
    def device(self) -> str:
        """Where this process samples its data."""
        return f"cuda:{torch.cuda.current_device()}" if self.on_gpu else "cpu"

    def fitted(self, model: nn.Module, tokens: int, steps: int, replicas: int = 1) -> tuple[Hardware, str]:
        """Every `auto` decided for this machine and this training, and the reasons in one line.

        Args:
            model: its parameters and its `width` tell how much arithmetic a token takes.
            tokens: read in each step by one process.
            steps: of the whole run.
            replicas: models like this one that train at once, each with so many tokens; never compiled.
        """
        parameters = sum(p.numel() for p in model.parameters())
        flop = 6.0 * parameters * tokens * replicas  # of a step: forward and backward
        width = getattr(model, "width", 0)
        chosen: dict[str, Any] = {}
        reasons = []
        if self.precision == "auto":
            # On a GPU bf16 is asked for by name, `hardware=gpu`: nothing has been measured to decide by.
            amx = not self.on_gpu and torch.cpu.get_capabilities().get("amx_bf16", False)
            chosen["precision"] = "bf16" if amx and width >= _BF16_WIDTH else "fp32"
            if not self.on_gpu:
                unit = f"AMX, model.width={width}" if amx else "no AMX"
                reasons.append(f"{chosen['precision']} ({unit})")
        if self.compile == "auto":
            long = flop * steps >= _COMPILE_FLOP
            chosen["compile"] = long and width >= _BF16_WIDTH and not self.on_gpu and replicas == 1
            how = "compiled" if chosen["compile"] else "not compiled"
            why = f"{flop * steps:.1g} FLOP in all" if replicas == 1 else f"replicas={replicas}"
            reasons.append(f"{how} ({why})")
        if self.threads == "auto":
            chosen["threads"] = _cores() // self.devices if flop >= _THREADS_FLOP and not self.on_gpu else 1
            chosen["threads"] = max(1, chosen["threads"])
            reasons.append(f"{chosen['threads']} thread(s) ({flop:.1g} FLOP a step)")
        return replace(self, **chosen), ", ".join(reasons)

    def limit_threads(self) -> None:
        """Hold this process to its threads."""
        assert self.threads != "auto", "not fitted"
        torch.set_num_threads(self.threads)

    def describe(self) -> str:
        """The device by name, for results.json."""
        name = torch.cuda.get_device_name() if self.on_gpu else f"cpu, {self.threads} thread(s)"
        how = [self.precision, *["compiled"] * bool(self.compile), *["CUDA graph"] * self.cuda_graph]
        return f"{self.devices} × {name}, {', '.join(how)}"

    def trainer_arguments(self) -> dict[str, Any]:
        """Arguments for Lightning's Trainer."""
        return {
            "accelerator": "gpu" if self.on_gpu else "cpu",
            "devices": self.devices,
            "strategy": "auto" if self.devices == 1 else "ddp_spawn",
            "precision": "bf16-mixed" if self.precision == "bf16" else "32-true",
            # A run starts its own processes, also inside a Slurm job, where Lightning would leave it to srun.
            "plugins": [LightningEnvironment()],
        }


def _cores() -> int:
    """Of this machine, or this process's share of them: the pool tells its workers theirs."""
    outermost = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]  # a list: one for each nested level
    return int(outermost) if outermost.strip().isdecimal() else len(os.sched_getaffinity(0))
