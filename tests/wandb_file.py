"""Reads the file that a W&B run leaves (records in LevelDB's log format)."""

import json
import struct
import subprocess
import sys
import time
from pathlib import Path

from wandb.proto import wandb_internal_pb2

HEADER, BLOCK = 7, 32768


def records(path: Path) -> list:
    """All protobuf records of a .wandb file, or of the one in a folder.

    W&B's service writes the last ones after `finish` has returned: wait for them, up to ten seconds.
    """
    for _ in range(100):
        found = read_records(path)
        if any(record.HasField("exit") for record in found):
            break
        time.sleep(0.1)
    return found


def read_records(path: Path) -> list:
    path = next(path.glob("*.wandb")) if path.is_dir() else path
    data, position, found, parts = path.read_bytes(), HEADER, [], b""
    assert data[:4] == b":W&B"
    while position + 7 <= len(data):
        if BLOCK - position % BLOCK < 7:  # padding at the end of a block
            position += BLOCK - position % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", data, position)
        parts += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # a whole record, or the last piece of one
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            found.append(record)
            parts = b""
    return found


def items(entries) -> dict[str, str]:
    """Key (nested ones with dots) to JSON text."""
    return {entry.key or ".".join(entry.nested_key): entry.value_json for entry in entries}


def history_of(path: Path) -> list[dict]:
    """The history as rows of metrics.csv: without W&B's own keys, and with its step."""
    rows = [items(record.history.item) for record in records(path) if record.HasField("history")]
    return [
        {"step": int(row["_step"])}
        | {key: json.loads(x) for key, x in row.items() if not key.startswith("_")}
        for row in rows
    ]


def inspect(path: Path) -> dict:
    """What `wandb leet` shows of a run."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--summary", "--json", str(path)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
