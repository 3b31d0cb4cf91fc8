"""Run a cell in the process of a launcher."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from forethought.sweeps import Cell, Locked, read_cell
from forethought.training import run_cell


def work(cell: Cell, folder: str | None = None) -> int:
    """Run a cell. Return the exit code of its process: 0, or 1 if the cell failed.

    Args:
        folder: the current folder of the command, to which paths in the config are relative. Other
            machines must see it under the same path.
    """
    if folder is not None:
        os.chdir(folder)
    if cell.config["hardware"]["devices"] > 1:
        # Lightning starts the other ranks by this process's own command, which here is the launcher's.
        sys.modules["__main__"].__spec__ = None
        sys.argv = [__file__, str(cell.folder.absolute())]
    try:
        results = run_cell(cell, own_process_group=True)
    except Locked:
        return 0
    return 0 if results.status == "finished" else 1


if __name__ == "__main__":  # a further rank of a DDP run
    shared = read_cell(Path(sys.argv[1]))
    assert shared is not None, "written by the first rank"
    sys.exit(work(shared))
