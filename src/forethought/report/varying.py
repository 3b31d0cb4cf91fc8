"""Swept parameters of a set of runs, and labels made from them."""

from collections.abc import Iterable, Sequence
from typing import Any

from forethought.report.wording import format_value
from forethought.results import Results
from forethought.sweeps import NOT_IDENTITY

# These keys name a run or the place of its execution and do not change its results. An experiment is a
# name for settings that are compared individually.
_IGNORED = NOT_IDENTITY | {"seed", "experiment"}


def flatten_config(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the config with dotted keys: `{"task": {"degree": 2}}` → `{"task.degree": 2}`."""
    flat: dict[str, Any] = {}
    for key, entry in config.items():
        flat |= flatten_config(entry, f"{prefix}{key}.") if isinstance(entry, dict) else {prefix + key: entry}
    return flat


def collect_settings(run: Results) -> dict[str, Any]:
    """Return a run's choices (`objective`) and fields (`task.degree`) that can change its results."""
    choices = {key: choice for key, choice in run.choices.items() if "/" not in key}
    return {
        key: entry
        for key, entry in (choices | flatten_config(run.config)).items()
        if key.split(".")[0] not in _IGNORED and not any(map(_is_derived, key.split(".")))
    }


def _is_derived(part: str) -> bool:
    """Return True for `_target_` (the chosen file determines it) and `label` (`2x4`; other fields do)."""
    return part.startswith("_") or part == "label"


def find_varying_keys(runs: Sequence[Results]) -> list[str]:
    """Return the parameters that distinguish the groups of a sweep, the objective first.

    A field varies only if it differs among runs with the same choice of its config group: the name of the
    objective already says that one objective has a field and another lacks it. A field that no run sets on
    the command line is omitted if the listed parameters determine it (`num_nodes: ${…}`).
    """
    table = [collect_settings(run) for run in runs]
    ordered = dict.fromkeys(key for row in table for key in row)
    choices = [key for key in ordered if any(key in run.choices for run in runs)]
    fields = [key for key in ordered if key not in choices]
    overridden = list(
        dict.fromkeys(override.lstrip("+~").split("=", 1)[0] for run in runs for override in run.overrides)
    )
    candidates = [
        *sorted(choices, key=lambda key: key != "objective"),
        *(key for key in overridden if key in fields),
        *(key for key in fields if key not in overridden),
    ]
    listed: list[str] = []
    for key in candidates:
        group = [key.split(".")[0]] if "." in key else []
        if _is_determined(key, group, table):
            continue
        if key in overridden or not _is_determined(key, listed, table):
            listed.append(key)
    return listed


def _is_determined(key: str, by: Iterable[str], table: Sequence[dict[str, Any]]) -> bool:
    """Return True if rows that agree in `by` also agree in `key`. Rows without the key are ignored."""
    seen: dict[tuple[str, ...], str] = {}
    for row in table:
        if key in row:
            text, levels = format_value(row[key]), tuple(format_value(row.get(k)) for k in by)
            if seen.setdefault(levels, text) != text:
                return False
    return True


def format_label(run: Results, keys: Sequence[str]) -> str:
    """Return a label, `next_token reverse=true`: choices by name, fields by the last part of their key.

    A flag that is off is omitted, unless the label would be empty without it.
    """
    settings = collect_settings(run)
    present = [key for key in keys if key in settings]
    included = [key for key in present if settings[key] is not False] or present
    names = {key: key.split(".")[-1] for key in keys}
    ambiguous = {name for name in names.values() if list(names.values()).count(name) > 1}
    words = [
        format_value(settings[key])
        if key in run.choices
        else f"{key if names[key] in ambiguous else names[key]}={format_value(settings[key])}"
        for key in included
    ]
    return " ".join(words) or run.choices.get("objective", "all runs")
