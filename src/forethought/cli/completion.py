"""Completion of KEY=VALUE words in a shell, from the YAML files alone."""

from __future__ import annotations

import yaml  # type: ignore[import-untyped]

from forethought.config_folder import config_folder, list_choices


def complete_override(prefix: str, given: list[str]) -> list[str]:
    """Return the words that start with `prefix`: groups, their choices, and keys.

    Args:
        given: the overrides on the line so far, which may choose files of groups.
    """
    folder = config_folder()
    root = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    chosen = {
        group.removeprefix("override "): str(name)
        for entry in root["defaults"]
        if isinstance(entry, dict)
        for group, name in entry.items()
    }
    chosen |= dict(word.split("=", 1) for word in given if "=" in word)
    words: list[str] = []
    for group, choices in list_choices().items():
        words += [f"{group}={choice}" for choice in choices]
        path = folder / group / f"{chosen.get(group, '')}.yaml"
        if group != "experiment" and path.is_file():
            keys = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
            names = [key for key in keys if key not in ("_target_", "label", "defaults")]
            words += [f"{group.replace('/', '.')}.{name}=" for name in names]
    for key, value in root.items():
        if isinstance(value, dict) and key != "hydra":
            words += [f"{key}.{name}=" for name in value]
        elif key not in ("defaults", "hydra"):
            words.append(f"{key}=")
    return [word for word in words if word.startswith(prefix)]
