"""Overrides of a config that is composed already."""

from copy import deepcopy
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import OverrideType
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from forethought.config.explain import explain_hydra
from forethought.errors import InputError


def apply_overrides(config: dict[str, Any], words: list[str], changeable: tuple[str, ...]) -> dict[str, Any]:
    """Return the config with KEY=VALUE words applied.

    Args:
        changeable: the root keys that may change.

    Raises:
        InputError: another key, a key that the config lacks, or a group in place of a value.
    """
    try:
        overrides = OverridesParser.create().parse_overrides(words)
    except HydraException as error:
        raise explain_hydra(error) from None
    changed = OmegaConf.create(deepcopy(config))
    OmegaConf.set_struct(changed, True)
    for override in overrides:
        word, key = override.input_line, override.key_or_group
        plain = override.type is OverrideType.CHANGE and not override.is_sweep_override()
        if not plain or key.split(".")[0] not in changeable:
            raise InputError(f"{word}: expected KEY=VALUE with a key under {', '.join(changeable)}")
        try:
            before = OmegaConf.select(changed, key)
            if OmegaConf.is_dict(before):
                raise InputError(f"{word}: {key} is not a single value; use {key}.KEY=VALUE")
            OmegaConf.update(changed, key, override.value())
        except OmegaConfBaseException as error:
            raise explain_hydra(error) from None
    result: dict[str, Any] = OmegaConf.to_container(changed)  # type: ignore[assignment]
    return result


def quote(value: object) -> str:
    """Quote a value for Hydra's grammar, whatever characters it holds."""
    escaped = str(value).replace("\\", "\\\\").replace("'", "\\'").replace("${", "\\${")
    return f"'{escaped}'"
