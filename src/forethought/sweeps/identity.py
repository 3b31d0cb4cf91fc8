"""Names of cells: the same resolved config has the same name, however it was composed."""

import hashlib
import json
from typing import Any

NOT_IDENTITY = frozenset(
    {"sweep", "hardware", "logger", "callbacks", "log_every", "dry_run", "force", "optimized_metric"}
)
"""Root keys that do not change a run's numbers. Every other root key is part of the identity."""

_NOT_IDENTITY_OF_TRAINER = frozenset({"profiler", "strategy", "num_nodes", "sync_batchnorm"})


def cell_name(config: dict[str, Any], choices: dict[str, str]) -> str:
    """Return `path_star-2x4-gpt-3x64-next_token-s0-1a2b3c4d`: choices with labels, seed, hash.

    A group's label is the `label` key of its YAML file. Labels are for people and not hashed.
    """
    parts = []
    for group in ("task", "model", "objective"):
        parts.append(choices.get(group, group))
        label = (config.get(group) or {}).get("label")
        parts.extend([str(label)] if label is not None else [])
    return "-".join([*parts, f"s{config.get('seed')}", fingerprint(config)]).replace("/", "_")


def fingerprint(config: dict[str, Any]) -> str:
    """Return eight hexadecimal digits of the hash of the identity fields."""
    identity = {key: _canonical(value) for key, value in config.items() if key not in NOT_IDENTITY}
    trainer = {k: v for k, v in (identity.pop("trainer", None) or {}).items() if v is not None}
    if numeric := {key: v for key, v in trainer.items() if key not in _NOT_IDENTITY_OF_TRAINER}:
        identity["trainer"] = numeric
    text = json.dumps(identity, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _canonical(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _canonical(part) for key, part in value.items() if key != "label"}
    if isinstance(value, list):
        return [_canonical(part) for part in value]
    # 1 and 1.0 are one learning rate.
    return int(value) if isinstance(value, float) and value.is_integer() else value
