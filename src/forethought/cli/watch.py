"""`forethought status FOLDER --watch`: the sweep's state on the terminal, renewed until all is done."""

import time
from pathlib import Path

from rich.live import Live
from rich.text import Text

from forethought.cli.status import lines, summary
from forethought.sweep import STATES, CellStatus, sweep_status

_EVERY = 2.0  # seconds


def watch(sweep: Path) -> None:
    """Returns when no cell has anything left to do, or at Ctrl-C; without a terminal prints once, then."""
    cells = sweep_status(sweep)
    with Live(_screen(cells), auto_refresh=False) as live:
        try:
            while any(cell.state in ("running", "interrupted", "waiting") for cell in cells):
                time.sleep(_EVERY)
                cells = sweep_status(sweep, earlier=cells)
                live.update(_screen(cells), refresh=True)
        except KeyboardInterrupt:
            pass


def _screen(cells: list[CellStatus]) -> Text:
    """What matters most comes first: what does not fit is left out at the end."""
    ordered = sorted(cells, key=lambda cell: STATES.index(cell.state))
    return Text("\n".join([summary(cells), *lines(ordered)]), no_wrap=True, overflow="ellipsis")
