"""Configs: command-line words become cells, by Hydra's public API. The only room that sees Hydra."""

from forethought.config.compose import Composer
from forethought.config.overrides import apply_overrides, quote
from forethought.config.show import show

__all__ = ["Composer", "apply_overrides", "quote", "show"]
