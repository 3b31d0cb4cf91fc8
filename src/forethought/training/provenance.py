"""Facts about the place, time and code of a stretch of training."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
import time
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from forethought import __version__
from forethought.results import Stretch

_COMMIT = "FORETHOUGHT_COMMIT"  # asked of git once a command, not once a cell


def describe_stretch(first_step: int, last_step: int, device: str) -> Stretch:
    """Return the record of a stretch of training that begins now in this process."""
    commit, dirty = source_commit()
    return Stretch(
        first_step=first_step,
        last_step=last_step,
        began=time.time(),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        host=platform.node(),
        cpu=_cpu_model(),
        device=device,
        instructions=torch.backends.cpu.get_cpu_capability(),
        versions=versions(),
        command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        commit=commit,
        dirty=dirty,
    )


def versions() -> dict[str, str]:
    return {
        "python": sys.version.split()[0],
        "torch": version("torch"),
        "lightning": version("lightning"),
        "forethought": __version__,
    }


def source_commit() -> tuple[str | None, bool | None]:
    """Return the git commit of this package's source and whether tracked files differ from it.

    The answer is kept in the environment, where the processes of a sweep find it.
    """
    if _COMMIT not in os.environ:
        commit, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--untracked-files=no")
        os.environ[_COMMIT] = f"{commit or ''} {'dirty' if changes else ''}"
    commit, _, dirty = os.environ[_COMMIT].partition(" ")
    return (commit, bool(dirty)) if commit else (None, None)


def _git(*words: str) -> str | None:
    source = Path(__file__).parents[2]  # src/ in a checkout
    if not (source.parent / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(source), *words]
        done = subprocess.run(command, capture_output=True, check=True, timeout=10)
        return done.stdout.decode(errors="replace").strip()
    except (OSError, subprocess.SubprocessError):
        return None


@cache
def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def summary_of_host() -> dict[str, Any]:
    """Return the versions and the processor, for a run that ended before training."""
    return {"versions": versions(), "device": _cpu_model()}
