"""The settings of an experiment, read from its YAML file without Hydra: what a run of it must have."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from forethought.config_folder import config_folder
from forethought.results.frame import flatten_config, format_value

Values = dict[str, list[str]]
"""The accepted values of each key, as text."""


@cache
def read_protocol(experiment: str, folder: Path | None = None) -> list[Values] | None:
    """Return the rows of `conf/experiment/PAPER/TABLE.yaml`. None if there is no such file.

    A run of the experiment agrees with one of the rows in every key that the row has. A row has the keys of
    `conf/config.yaml`, of the file, of `hydra.sweeper.params` and of one entry of `hydra.sweeper.rows`. Later
    ones win, and the file wins over the experiment that it builds on.

    Args:
        folder: conf/ by default.
    """
    folder = folder or config_folder()
    path = folder / "experiment" / f"{experiment}.yaml"
    if not path.is_file():
        return None
    root, _, _ = _read(folder / "config.yaml")
    body, params, rows = _read(path)
    return [root | body | params | _split_all(row) for row in rows or [{}]]


def _read(path: Path) -> tuple[Values, Values, list[dict[str, Any]]]:
    """Return the values of a file, those of its params, and its rows, each after those it builds on."""
    entries = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    sweeper = ((entries.pop("hydra", None) or {}).get("sweeper")) or {}
    body: Values = {}
    params: Values = {}
    rows: list[dict[str, Any]] = []
    for entry in entries.pop("defaults", ()):
        if isinstance(entry, str) and entry.startswith("/experiment/"):
            folder = next(parent for parent in path.parents if parent.name == "experiment").parent
            further, of_params, of_rows = _read(folder / f"{entry[1:]}.yaml")
            body, params, rows = body | further, params | of_params, of_rows or rows
        elif isinstance(entry, dict):
            groups = {re.sub(r"^override\s+", "", key).lstrip("/"): value for key, value in entry.items()}
            body |= {group: [format_value(value)] for group, value in groups.items()}
    body |= {key: [format_value(value)] for key, value in flatten_config(entries).items()}
    return body, params | _split_all(sweeper.get("params") or {}), sweeper.get("rows") or rows


def _split_all(values: dict[str, Any]) -> Values:
    return {
        key: [*_split(value)] if isinstance(value, str) else [format_value(value)]
        for key, value in values.items()
    }


def _split(text: str) -> Iterator[str]:
    """Yield the values of a sweep as the command line writes it: `2,4`, `range(5)`, `[1,2],[3,4]`."""
    if match := re.fullmatch(r"\s*range\(([-\d,\s]+)\)\s*", text):
        yield from map(str, range(*map(int, match[1].split(","))))
        return
    if match := re.fullmatch(r"\s*choice\((.*)\)\s*", text):
        text = match[1]
    # Commas within brackets and quotes belong to a value.
    for value in re.findall(r"""(?:\[[^\]]*\]|\{[^}]*\}|'[^']*'|"[^"]*"|\$\{[^}]*\}|[^,])+""", text):
        yield value.strip().strip("'\"")


def accepts(values: list[str], text: str) -> bool:
    """Return whether a value is one of those of a row. An interpolation (`${seed}`) accepts all."""
    return any("${" in value or same_value(value, text) for value in values)


def same_value(first: str, second: str) -> bool:
    """Compare two values of a config by their text, and as numbers if both are: `1e-3` is `0.001`."""
    if first == second:
        return True
    try:
        return float(first) == float(second)
    except ValueError:
        return False
