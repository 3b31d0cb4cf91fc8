"""W&B's environment: its variables, its folders on this machine, its login and its server."""

from __future__ import annotations

import logging
import netrc
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlparse

import requests
import wandb
from pydantic import ValidationError

from forethought.errors import InputError, expected_one_of
from forethought.validation import accepted_values

log = logging.getLogger(__name__)

_PROBE = 5.0  # seconds that the server has to answer at all

Mode = Literal["online", "offline", "disabled"]
MODES: tuple[Mode, ...] = get_args(Mode)
OLD_MODES: dict[str, Mode] = {"run": "online", "dryrun": "offline"}


def warn(message: str) -> None:
    """Warn in the log and, where that is a file, also on the terminal."""
    log.warning("W&B: %s", message)
    if logging.getLogger().hasHandlers():
        print(f"W&B: {message}", file=sys.stderr)


def writable_folder(path: Path, name: str) -> Path:
    """Return a folder, created if missing, or a temporary one if it cannot be written.

    Args:
        name: of the variable that chooses the folder.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()
    except OSError as error:
        stand_in = Path(tempfile.mkdtemp(prefix="wandb-"), path.name)
        stand_in.mkdir()
        warn(f"{path}: cannot be written ({error.strerror}), used {stand_in}; set {name} to another folder")
        return stand_in
    return path


def check_environment() -> Any:
    """Return the settings that W&B reads from the environment.

    Raises:
        InputError: the first variable that W&B or this project rejects.
    """
    settings = wandb.Settings()
    for name, value in os.environ.items():
        if not name.startswith("WANDB_"):
            continue
        shown = f"{name}={'…' if name == 'WANDB_API_KEY' else value}"
        if name == "WANDB_MODE" and value not in (modes := [*MODES, *OLD_MODES]):
            raise InputError(f"{shown}: {expected_one_of(modes, value)}")
        if name in ("WANDB_FORK_FROM", "WANDB_RESUME_FROM"):
            raise InputError(f"{shown}: not supported; unset it")
        if name == "WANDB_SWEEP_PARAM_PATH" and not Path(value).is_file():
            raise InputError(f"{shown}: no such file; unset it, or let `wandb agent` set it")
        try:
            settings.update_from_env_vars({name: value})
        except ValidationError as error:
            first: Any = error.errors()[0]
            accepted = accepted_values(first).removeprefix("Value error, ")
            expected = "expected " * (accepted != first["msg"])
            raise InputError(f"{shown}: {expected}{accepted}") from None
        except wandb.errors.UsageError as error:
            raise InputError(f"{shown}: {error}") from None
    return settings


def agent_variable() -> str | None:
    """Return the variable of a W&B agent or job that gives a run its id and project, as NAME=VALUE.

    W&B then ignores the id, project and entity that `wandb.init` is called with.
    """
    settings = check_environment()
    if settings.sweep_id:
        return f"WANDB_SWEEP_ID={settings.sweep_id}"
    return "WANDB_LAUNCH=true" if settings.launch else None


def wandb_settings() -> Any:
    """Return the settings that W&B finds in the environment and in its own files.

    Without a home, or where W&B's folders in it cannot be written, W&B gets temporary ones: it would not
    start, or print the log of its service.
    """
    check_environment()
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = tempfile.mkdtemp(prefix="wandb-")
    own = {"WANDB_CACHE_DIR": str(wandb.env.get_cache_dir()), "WANDB_DATA_DIR": wandb.env.get_data_dir()}
    for name, path in own.items():
        folder = Path(path).expanduser()
        if (usable := writable_folder(folder, name)) != folder:
            os.environ[name] = str(usable)
    settings = wandb.setup(wandb.Settings(show_info=False)).settings  # warnings stay
    settings.resume = None  # WANDB_RESUME: the id in a folder says what is resumed
    return settings


def logged_in(base_url: str) -> bool:
    """Tell whether an API key is found without a prompt (environment or netrc file)."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return (
            netrc.netrc(os.environ.get("NETRC")).authenticators(urlparse(base_url).hostname or "") is not None
        )
    except (OSError, netrc.NetrcParseError):
        return False


def answers(base_url: str) -> bool:
    """Tell whether a server answers there within seconds, even if with a client error."""
    try:
        return requests.get(base_url, timeout=_PROBE, allow_redirects=False).status_code < 500
    except requests.RequestException:
        return False
