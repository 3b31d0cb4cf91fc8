"""Checkpoints: written atomically and read as plain data, so that none can run code."""

from __future__ import annotations

import io
import pickle
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.plugins import TorchCheckpointIO
from torch import nn

from forethought.errors import InputError
from forethought.results import write_atomically

Weights = dict[str, Any]
"""A `state_dict`: tensors, and what else a module keeps with `get_extra_state`."""

STATE_KEY, STATE_VERSION = "forethought", 2


class AtomicCheckpoints(TorchCheckpointIO):
    """Checkpoint IO that replaces a file only by a whole one, which `read_checkpoint` can read.

    Lightning's own goes through the system's temporary folder, where a killed run leaves its file and a
    full disk is another disk than the run's.

    Args:
        weights: of the objective as it was built, and as it will be built to load a checkpoint.
    """

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self._shapes = _shapes_of(weights)
        self._is_trial = False

    @contextmanager
    def trial(self) -> Iterator[None]:
        """Check checkpoints in the block and write none."""
        self._is_trial = True
        try:
            yield
        finally:
            self._is_trial = False

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """
        Raises:
            InputError: the checkpoint holds more than plain data, or other weights than a new objective.
        """
        for name, built, now in _differences(self._shapes, _shapes_of(checkpoint["state_dict"])):
            raise InputError(
                f"objective: {name} has {now} in the checkpoint and {built} in a new objective; register it "
                "in __init__, so that the checkpoint can be loaded"
            )
        _drop_objects_from_hyper_parameters(checkpoint)
        # Serialise to memory first: on a full disk, the error of torch.save does not mention the disk.
        buffer = io.BytesIO()
        try:
            torch.save(checkpoint, buffer)
            buffer.seek(0)
            unsafe = torch.serialization.get_unsafe_globals_in_checkpoint(buffer)
            if self._is_trial and not unsafe:
                buffer.seek(0)
                torch.load(buffer, weights_only=True)
        except (pickle.PickleError, AttributeError, TypeError) as error:  # of an object that is not pickled
            unsafe = [" ".join(str(error).split())]
        if unsafe:
            what = _find_object(checkpoint, "checkpoint") or f"checkpoint: holds {', '.join(unsafe)}"
            raise InputError(f"{what}, more than plain data; save numbers, texts, tensors, lists and dicts")
        if not self._is_trial:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            write_atomically(Path(path), buffer.getvalue())


_PLAIN = {type(None), bool, int, float, complex, str, bytes, torch.Size, torch.dtype, torch.device}


def _find_object(value: Any, path: str) -> str | None:
    """Return `path: holds a Class` for the first value that is not plain data, or None."""
    if type(value) in (dict, OrderedDict, defaultdict, Counter):
        parts = [*value.items(), *(("keys", key) for key in value)]
    elif type(value) in (list, tuple, set):
        parts = list(enumerate(value))
    elif type(value) in _PLAIN or isinstance(value, torch.Tensor):
        return None
    else:
        return f"{path}: holds a {type(value).__module__}.{type(value).__qualname__}"
    objects = (_find_object(part, f"{path}.{name}") for name, part in parts)
    return next(filter(None, objects), None)


def _drop_objects_from_hyper_parameters(checkpoint: dict[str, Any]) -> None:
    """Keep the plain ones: `self.save_hyperparameters()` in an objective also saves its model and task."""
    for kind in (pl.LightningModule, pl.LightningDataModule):
        checkpoint.pop(kind.CHECKPOINT_HYPER_PARAMS_TYPE, None)
        given = checkpoint.get(kind.CHECKPOINT_HYPER_PARAMS_KEY)
        if given is not None:
            plain = {name: value for name, value in given.items() if _find_object(value, name) is None}
            checkpoint[kind.CHECKPOINT_HYPER_PARAMS_KEY] = plain


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
    for name, here, there in _differences(_shapes_of(module.state_dict()), _shapes_of(saved)):
        raise InputError(
            f"{path}: {name} has {there}, in the configured model {here}; use a run of the same task "
            "size and model"
        )


def _differences(here: dict[str, str], there: dict[str, str]) -> Iterator[tuple[str, str, str]]:
    """Yield the entries whose shapes differ between two `_shapes_of`, with both shapes."""
    for name in dict.fromkeys([*here, *there]):
        shapes = here.get(name, "no place"), there.get(name, "no place")
        if shapes[0] != shapes[1]:
            yield name, *shapes


def _shapes_of(weights: Weights) -> dict[str, str]:
    return {name: _shape(entry) for name, entry in weights.items()}


def _shape(entry: Any) -> str:
    if isinstance(entry, torch.Tensor):
        return f"shape {tuple(entry.shape)}"
    return "no shape"
