"""Hydra's own printing of configs: `--keys`, `--cfg`, `--info`, `--hydra-help`."""

import hydra
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from forethought.config_folder import config_folder


def show() -> None:
    """Let Hydra print what `sys.argv` asks of it."""
    GlobalHydra.instance().clear()
    main = hydra.main(version_base="1.3", config_path=str(config_folder()), config_name="config")(
        _run_nothing
    )
    try:
        main()
    except SystemExit as done:  # after --hydra-help
        if done.code:
            raise


def _run_nothing(config: DictConfig) -> None:
    """Stand for a task: Hydra prints and returns before it calls one."""
