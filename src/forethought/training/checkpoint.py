"""Checkpoints: written atomically and read as plain data, so that none can run code."""

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

STATE_KEY, STATE_VERSION = "forethought", 2


class AtomicCheckpoints(TorchCheckpointIO):
    """Checkpoint IO that replaces a file only by a whole one.

    Lightning's own goes through the system's temporary folder, where a killed run leaves its file and a
    full disk is another disk than the run's.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        # Serialise to memory first: on a full disk, the error of torch.save does not mention the disk.
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(Path(path), buffer.getvalue())


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Load a checkpoint of this project, of this or an older form.

    Raises:
        InputError: truncated, not written by this project, or holding more than plain data.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        _upgrade(checkpoint)
    except Exception:  # torch fails on foreign files in ways of its own, and their content is unknown
        raise InputError(
            f"{path}: corrupt, or not a Forethought checkpoint; delete it to restart the run from step 0"
        ) from None
    return checkpoint


def _upgrade(checkpoint: Any) -> None:
    """Bring an older checkpoint to the current form, in place.

    Version 1 kept the state in a callback named `Progress`, with the curves.

    Raises:
        Exception: any, if it is not a checkpoint of ours.
    """
    if STATE_KEY not in checkpoint:
        progress = checkpoint["callbacks"].pop("Progress")
        checkpoint[STATE_KEY] = {
            "version": STATE_VERSION,
            "steps_to_solve": progress["steps_to_solve"],
            "seconds": progress["seconds"],
            "rows": progress["rows"],
        }
    state = checkpoint[STATE_KEY]
    state.setdefault("solved", state["steps_to_solve"] is not None)  # version 2 began without it
    if not (
        state["version"] == STATE_VERSION
        and isinstance(checkpoint["global_step"], int)
        and isinstance(state["seconds"], float | int)
        and isinstance(checkpoint["state_dict"], dict)
    ):
        raise ValueError


def checkpoint_of(folder: Path) -> Path:
    """Return the path of a run's last checkpoint.

    Raises:
        InputError: the folder has none.
    """
    path = folder / "checkpoints" / "last.ckpt"
    if not path.is_file():
        raise InputError(f"{folder}: has no checkpoints/last.ckpt; pass the folder of a run")
    return path


def load_model_weights(model: nn.Module, path: Path) -> Weights:
    """Return weights for `model` from the checkpoint of a run with any objective.

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
    """Compare the names and shapes of saved weights with a module's.

    Raises:
        InputError: they differ.
    """
    weights = module.state_dict()
    for name in [*weights, *(name for name in saved if name not in weights)]:
        here, there = _shape(weights.get(name)), _shape(saved.get(name))
        if here != there:
            raise InputError(
                f"{path}: {name} has {there}, in the configured model {here}; use a run of the same task "
                "size and model"
            )


def _shape(entry: Any) -> str:
    if isinstance(entry, torch.Tensor):
        return f"shape {tuple(entry.shape)}"
    return "no place" if entry is None else "no shape"
