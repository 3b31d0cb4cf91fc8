"""`forethought status`: the state of every cell of a sweep, or of a single run; never torch."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text

    from forethought.sweeps import CellStatus

_EVERY = 2.0  # seconds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="of a sweep or of a run")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--watch", action="store_true", help="refresh every two seconds until all is done")
    form.add_argument("--json", action="store_true", help="print the states as JSON")


def run(options: argparse.Namespace) -> int:
    from forethought.cli.show import print_strangers
    from forethought.sweeps import summarise, sweep_status

    if options.watch:
        _watch(options.folder)
        return 0
    cells = sweep_status(options.folder)
    if options.json:
        print(json.dumps([asdict(cell) for cell in cells], indent=1))
    else:
        print("\n".join([*_lines(cells), summarise(cells)]))
    print_strangers(options.folder)
    return 0


def _lines(cells: list[CellStatus]) -> list[str]:
    width = max((len(cell.name) for cell in cells), default=0)
    return [f"{cell.state:<12} {cell.name:<{width}}  {cell.detail}".rstrip() for cell in cells]


def _watch(folder: Path) -> None:
    """Show the state until no cell has work left, or until Ctrl-C. Without a terminal, print it once."""
    from rich.live import Live

    from forethought.sweeps import sweep_status

    cells = sweep_status(folder)
    with Live(_screen(cells), auto_refresh=False) as live:
        try:
            while any(cell.state in ("running", "interrupted", "waiting") for cell in cells):
                time.sleep(_EVERY)
                cells = sweep_status(folder, earlier=cells)
                live.update(_screen(cells), refresh=True)
        except KeyboardInterrupt:
            pass


def _screen(cells: list[CellStatus]) -> Text:
    """Return the cells in order of importance, as the end is cut off on a small screen."""
    from rich.text import Text

    from forethought.sweeps import STATES, summarise

    ordered = sorted(cells, key=lambda cell: STATES.index(cell.state))
    return Text("\n".join([summarise(cells), *_lines(ordered)]), no_wrap=True, overflow="ellipsis")
