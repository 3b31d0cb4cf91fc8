"""Checkpoints: written whole or not at all, and read as plain data only, so that none can run code."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins import TorchCheckpointIO
from torch import nn

from forethought.errors import InputError
from forethought.results import write_atomically

Weights = dict[str, Any]
"""A `state_dict`: tensors, and what else a module keeps with `get_extra_state`."""


class AtomicCheckpoints(TorchCheckpointIO):
    """How Lightning saves. Its own way goes through the system's temporary folder, where a killed run
    leaves its file behind and a full disk is another one than the run's."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        # Through memory: of a disk that is full, torch's own writer says nothing that a person understands.
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_atomically(Path(path), buffer.getvalue())


def read_checkpoint(path: Path) -> dict[str, Any]:
    """
    Raises:
        InputError: truncated, not written by this project, or holding more than plain data.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # of a foreign file nothing is known, nor how torch fails on it
        state = None
    if not _is_ours(state):
        raise InputError(
            f"{path}: no checkpoint of forethought, or damaged; expected a whole one, or none to start anew"
        )
    return state


def _is_ours(state: Any) -> bool:
    if not isinstance(state, dict):
        return False
    progress = (state.get("callbacks") or {}).get("Progress")
    return (
        isinstance(state.get("global_step"), int)
        and isinstance(progress, dict)
        and progress.keys() == {"rows", "steps_to_solve", "best_accuracy", "seconds"}
        and isinstance(state.get("state_dict"), dict)
    )


def model_weights(model: nn.Module, path: Path) -> Weights:
    """Weights for `model` from the checkpoint of a run with whatever objective.

    Raises:
        InputError: the checkpoint's model has another shape.
    """
    saved = {
        name.removeprefix("model."): tensor
        for name, tensor in read_checkpoint(path)["state_dict"].items()
        if name.startswith("model.")
    }
    check_weights(model, saved, path)
    return saved


def check_weights(module: nn.Module, saved: Weights, path: Path) -> None:
    """
    Raises:
        InputError: the weights in this file are not those of such a module.
    """
    own = module.state_dict()
    for name in [*own, *(name for name in saved if name not in own)]:
        here, there = (_shape(weights.get(name)) for weights in (own, saved))
        if here != there:
            raise InputError(
                f"{path}: {name} has {there}, in the configured model {here}; expected a run of the same "
                "task size and model"
            )


def _shape(entry: Any) -> str:
    if isinstance(entry, torch.Tensor):
        return f"shape {tuple(entry.shape)}"
    return "no place" if entry is None else "no shape"
