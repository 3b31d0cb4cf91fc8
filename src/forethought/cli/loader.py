"""Cells as they were checked, for whatever launches them."""

from __future__ import annotations

import pickle
from collections.abc import Sequence

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_search_path import ConfigSearchPath
from omegaconf import DictConfig


class Loader(ConfigLoaderImpl):
    """Hydra's own, but that launchers are handed each cell as it was composed and checked.

    To compose it once more takes longer than to build a small model, and what waits for hours in a cluster's
    queue must not read config files that have been edited meanwhile.
    """

    def __init__(self, search_path: ConfigSearchPath) -> None:
        super().__init__(search_path)
        self.composed: dict[tuple[str, ...], bytes] = {}

    def keep(self, overrides: Sequence[str], config: DictConfig) -> None:
        self.composed[tuple(overrides)] = pickle.dumps(config)  # a twentieth of what the config itself takes

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        config: DictConfig = pickle.loads(self.composed[tuple(sweep_overrides)])
        return config
