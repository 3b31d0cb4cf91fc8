"""The machine a run uses; nothing here changes what is computed, only how fast."""

from typing import Any, Literal

import torch
from lightning.pytorch.plugins.environments import LightningEnvironment
from pydantic import PositiveInt

from forethought.errors import InputError
from forethought.validation import validated_dataclass


@validated_dataclass
class Hardware:
    """
    Args:
        accelerator: `auto` takes a CUDA GPU where there is one.
        devices: number of processes, each with its share of every batch (DDP from 2 on).
        precision: of the arithmetic; weights and optimiser state stay fp32.
        compile: `torch.compile` the model.
        threads: CPU threads of each process.

    Raises:
        InputError: fewer GPUs than asked for.
    """

    accelerator: Literal["auto", "cpu", "gpu"]
    devices: PositiveInt
    precision: Literal["fp32", "bf16"]
    compile: bool
    threads: PositiveInt

    def __post_init__(self) -> None:
        available = torch.cuda.device_count()
        if self.accelerator == "gpu" and available == 0:
            raise InputError("hardware.accelerator=gpu: torch sees no CUDA device here; expected cpu or auto")
        if self.on_gpu and self.devices > available:
            raise InputError(
                f"hardware.devices={self.devices}: torch sees {available} CUDA devices; "
                f"expected at most {available}"
            )

    @property
    def on_gpu(self) -> bool:
        return self.accelerator == "gpu" or (self.accelerator == "auto" and torch.cuda.is_available())

    @property
    def device(self) -> str:
        """Where this process samples its data."""
        return f"cuda:{torch.cuda.current_device()}" if self.on_gpu else "cpu"

    def describe(self) -> str:
        """The device by name, for results.json."""
        name = torch.cuda.get_device_name() if self.on_gpu else f"cpu, {self.threads} thread(s)"
        return f"{self.devices} × {name}, {self.precision}"

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
