"""Launchers: where the cells of a sweep run (`hydra/launcher=basic | pool | submitit_slurm | ray`)."""

from typing import Any

from forethought.launchers.base import Launcher
from forethought.launchers.basic import Basic
from forethought.launchers.pool import Pool
from forethought.launchers.ray import Ray
from forethought.launchers.submitit import Submitit
from forethought.training.construct import construct

__all__ = ["Basic", "Launcher", "Pool", "Ray", "Submitit", "build_launcher"]


def build_launcher(options: dict[str, Any]) -> Launcher:
    """Build a launcher from the options of `hydra.launcher`.

    Raises:
        InputError: an option that it does not have, or a package that is missing.
    """
    options = {key: value for key, value in options.items() if key != "_convert_"}
    launcher: Launcher = construct({"launcher": options}, "launcher", base=Launcher, prefix="hydra.")
    launcher.check()
    return launcher
