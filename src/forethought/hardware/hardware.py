"""The machine of a run. Nothing here changes what is computed, but for rounding; only how fast."""

from __future__ import annotations

import time
from dataclasses import field, replace
from typing import Any, Literal

import torch
from pydantic import PositiveInt
from torch import nn

from forethought.errors import InputError
from forethought.hardware.memory import keep_freed_memory
from forethought.hardware.threads import available_cores, fastest_threads, requested_threads
from forethought.models import compiled_block
from forethought.models.gpt import GPTBlock
from forethought.validation import validated_dataclass

# Compiling and more threads pay on a CPU from here on: docs/PERFORMANCE.md, "What `auto` stands for".
_COMPILE_WIDTH = 64
_COMPILE_FLOP = 2e13  # of a whole run: compiling takes the better part of a minute
_THREADS_FLOP = 5e9  # of a step: tens of milliseconds
_BLOCKS_THREADS_FLOP = 1e8  # the same with blocks in C++

Precision = Literal["fp32", "bf16"]


@validated_dataclass
class Hardware:
    """Devices, threads and compilation.

    Args:
        accelerator: `auto` takes a CUDA GPU if there is one.
        devices: number of processes; from 2 on each takes its share of every batch (DDP).
        compile: `torch.compile` the model; `reduce-overhead` also records CUDA graphs, for small models
            on a GPU; `blocks` computes small GPT blocks on a CPU in C++ (`compiled_block`), in fp32; `auto`
            takes blocks where there are some, and otherwise decides by the model and the length of the run.
        threads: CPU threads of each process; `auto` takes 1 for a small step. For a large step it takes
            `OMP_NUM_THREADS` if that is set, or else measures what is fastest on this machine now. For
            blocks in C++ it does so for a small step, too: their results do not depend on the threads.

    Raises:
        InputError: fewer GPUs than requested.
    """

    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: PositiveInt = 1
    compile: Literal["auto", "blocks", "reduce-overhead"] | bool = "auto"
    threads: Literal["auto"] | PositiveInt = "auto"
    block_threads: int = field(default=1, init=False, repr=False)
    """Threads of blocks in C++; found by `fitted`."""

    def __post_init__(self) -> None:
        available = torch.cuda.device_count()
        if self.accelerator == "gpu" and available == 0:
            raise InputError("hardware.accelerator=gpu: PyTorch sees no CUDA device; use cpu or auto")
        if self.on_gpu and self.devices > available:
            raise InputError(
                f"hardware.devices={self.devices}: out of range; PyTorch sees {available} CUDA devices"
            )

    @property
    def on_gpu(self) -> bool:
        return self.accelerator == "gpu" or (self.accelerator == "auto" and torch.cuda.is_available())

    @property
    def device(self) -> str:
        """The device of this process."""
        return f"cuda:{torch.cuda.current_device()}" if self.on_gpu else "cpu"

    @property
    def has_idle_core(self) -> bool:
        """True if each process trains on a CPU and has a core beside the one that it trains on."""
        return not self.on_gpu and available_cores() > self.devices

    def fitted(
        self, objective: nn.Module, rows: int, length: int, steps: int, precision: Precision = "fp32"
    ) -> tuple[Hardware, str]:
        """Decide every `auto` for this machine and training. Return the result and the reasons in a line.

        Args:
            objective: the parameters and the `width` of its `model` determine the arithmetic of a token.
            rows: read in each step by one process.
            length: tokens of a row.
            steps: of the whole run.
            precision: of the run.
        """
        model: Any = objective.model
        parameters = sum(p.numel() for p in model.parameters())
        flop = 6.0 * parameters * rows * length  # of a step: forward and backward
        compiled, reasons = self._fitted_compile(objective, length, flop * steps, precision)
        threads: Any = self.threads
        block_threads = threads
        if threads == "auto":
            measured = flop >= (_BLOCKS_THREADS_FLOP if compiled == "blocks" else _THREADS_FLOP)
            block_threads = self._most_useful_threads() if measured and not self.on_gpu else 1
            threads = block_threads if flop >= _THREADS_FLOP else 1
            shown = block_threads if compiled == "blocks" else threads
            reasons.append(f"{shown} thread(s) ({flop:.1g} FLOP a step)")
        fitted = replace(self, compile=compiled, threads=threads)
        fitted.block_threads = block_threads
        return fitted, ", ".join(reasons)

    def _fitted_compile(
        self, objective: nn.Module, length: int, flop: float, precision: Precision
    ) -> tuple[Any, list[str]]:
        """Decide `compile` for a run of so many FLOP; reasons as of `fitted`."""
        reasons = []
        if self.compile in ("auto", "blocks"):
            short = not self.on_gpu and precision == "fp32" and length <= compiled_block.MAX_LENGTH
            small = short and bool(_small_blocks(objective))
            error = compiled_block.compile_error() if small else "no small GPT block in fp32 on a CPU"
            if error is None:
                return "blocks", [f"blocks in C++ ({flop:.1g} FLOP in all)"]
            if small or self.compile == "blocks":
                reasons.append(f"blocks not in C++ ({error})")
        if self.compile != "auto":
            return (False if self.compile == "blocks" else self.compile), reasons
        wide = getattr(objective.model, "width", 0) >= _COMPILE_WIDTH
        gains = _compiling_gains()
        chosen = flop >= _COMPILE_FLOP and wide and gains and not self.on_gpu
        how = "compiled" if chosen else "not compiled"
        why = "" if gains or self.on_gpu else ", no AVX-512"
        return chosen, [f"{how} ({flop:.1g} FLOP in all{why})", *reasons]

    def _most_useful_threads(self) -> int:
        """Return a process's share of the user's `OMP_NUM_THREADS`, or else what is fastest here and now."""
        requested = requested_threads()
        most = max(1, (requested or available_cores()) // self.devices)
        if requested or most == 1:
            return most
        return fastest_threads(most, minute=int(time.monotonic() / 60))

    def set_up(self, objective: nn.Module) -> None:
        """Limit this process to its threads; on a CPU, keep freed memory, and compute small blocks in C++."""
        assert self.threads != "auto", "not fitted"
        torch.set_num_threads(self.threads)
        if not self.on_gpu:
            keep_freed_memory()
        if self.compile == "blocks":
            for block in _small_blocks(objective):
                block.threads = self.block_threads

    def compile_model(self, model: nn.Module) -> None:
        """Compile the model in place by `torch.compile`, if this hardware does."""
        if self.compile == "reduce-overhead":
            model.compile(mode="reduce-overhead")
        elif self.compile is True:
            model.compile()

    def describe(self, precision: Precision) -> str:
        """Name devices and numerics in one line, for results.json."""
        name = torch.cuda.get_device_name() if self.on_gpu else f"cpu, {self.threads} thread(s)"
        compiled = f"compiled ({self.compile})" if isinstance(self.compile, str) else "compiled"
        return f"{self.devices} × {name}, {', '.join([precision, *[compiled] * bool(self.compile)])}"

    def trainer_arguments(self, precision: Precision) -> dict[str, Any]:
        """Return the arguments for Lightning's Trainer."""
        return {
            "accelerator": "gpu" if self.on_gpu else "cpu",
            "devices": self.devices,
            "strategy": "auto" if self.devices == 1 else "ddp",
            "precision": "bf16-mixed" if precision == "bf16" else "32-true",
        }


def _small_blocks(objective: nn.Module) -> list[GPTBlock]:
    """Return the blocks of the model, and of the objective's own layers, that are faster in C++."""
    return [part for part in objective.modules() if isinstance(part, GPTBlock) and part.compilable]


def _compiling_gains() -> bool:
    """Return False on an x86 CPU without AVX-512: compiled models were no faster (docs/PERFORMANCE.md)."""
    known = torch.cpu.get_capabilities()
    return known.get("architecture") != "x86_64" or bool(known.get("avx512_f"))
