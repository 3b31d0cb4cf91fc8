"""One cell of a sweep: a composed config with its name and folder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from forethought.errors import InputError

CELL_FILE = ".hydra/cell.json"


@dataclass(frozen=True)
class Cell:
    """A composed config, before it runs.

    Args:
        sweep: name of the sweep; None for a single run.
        choices: chosen file of each config group.
        overrides: command-line overrides of this cell, without those of Hydra itself.
        words: the whole command line that composes this cell again, flags first.
        config: the resolved config as plain nested dicts, without Hydra's own node.
        folder: receives everything that the run writes.
    """

    name: str
    sweep: str | None
    choices: dict[str, str]
    overrides: list[str]
    words: list[str]
    config: dict[str, Any]
    folder: Path

    def at(self, folder: Path) -> Cell:
        return replace(self, folder=folder)

    def to_json(self) -> str:
        return json.dumps(asdict(self) | {"folder": str(self.folder)}, indent=1) + "\n"

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Cell:
        return cls(**fields | {"folder": Path(fields["folder"])})


def read_cell(folder: Path) -> Cell | None:
    """Load the cell of the run in a folder. None if no run has begun there.

    Raises:
        InputError: the file is corrupt.
    """
    path = folder / CELL_FILE
    if not path.is_file():
        return None
    try:
        return Cell.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, KeyError, OSError):
        raise InputError(f"{path}: corrupt; delete it and run the command of this run again") from None
