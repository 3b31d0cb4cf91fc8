"""Where the cells of a sweep run: `hydra/launcher=pool`, `submitit_slurm`, `submitit_local` or `ray`."""

from typing import Any

from omegaconf import OmegaConf
from pydantic import ValidationError

from forethought.cli.launchers.pool import PoolLauncher
from forethought.cli.launchers.ray import RayLauncher
from forethought.cli.launchers.submitit import SubmititLauncher
from forethought.validation import explain

__all__ = ["PoolLauncher", "RayLauncher", "SubmititLauncher", "check_launcher", "runs_here"]

_PLUGINS = "hydra_plugins.forethought_launchers."  # Hydra takes launchers from nowhere else
_ELSEWHERE: dict[str, type[SubmititLauncher | RayLauncher]] = {
    f"{_PLUGINS}Submitit": SubmititLauncher,
    f"{_PLUGINS}Ray": RayLauncher,
}


def check_launcher(node: Any) -> None:
    """
    Args:
        node: the config's `hydra.launcher`.

    Raises:
        InputError: an option that it cannot have, or what it needs is not there.
    """
    options: Any = OmegaConf.to_container(node, resolve=True)
    target = options.pop("_target_")
    options.pop("_convert_", None)
    try:
        if target == f"{_PLUGINS}Pool":
            PoolLauncher(**options)
        if target in _ELSEWHERE:
            _ELSEWHERE[target](**options).check()
    except ValidationError as error:
        raise explain(error, "hydra.launcher") from None


def runs_here(node: Any) -> bool:
    """Whether cells see this machine's GPUs, rather than those of wherever the launcher sends them."""
    return str(node._target_) not in _ELSEWHERE
