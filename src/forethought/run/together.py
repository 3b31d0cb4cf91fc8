"""`replicas=R`: runs that differ in nothing but their seed, trained at once.

Only the training is shared. Each run keeps its own weights, data, clipping, curves and checkpoints, which are
those of a single run; once trained it is run as ever, and finds that nothing is left to do but to test.
"""

from __future__ import annotations

import itertools
import json
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import datetime

from forethought.errors import InputError
from forethought.results import RESULTS_FILE, read_results
from forethought.run.cell import record
from forethought.run.replicas import Replicas
from forethought.run.train import Start, begin, fit
from forethought.sweep import SESSION_FILE, Cell, Locked, Stopped, begin_session, lock, noted, noted_signals
from forethought.tasks import batches

Ready = list[tuple[Cell, Start]]


def train_together(cells: Sequence[Cell], finish: Callable[[Cell], None]) -> None:
    """Train cells of which those that differ in nothing but their seed, and are at the same step, go at once.

    They stop whenever one is done or fails; the others go on from the checkpoints that all have just left.

    Args:
        finish: runs one cell by itself; called for each as soon as it is trained. What cannot train here
            (locked, a damaged checkpoint, a loss that is no number) goes on so from its last checkpoint,
            and says itself what is wrong.

    Raises:
        KeyboardInterrupt: after the results files say so; so, too, with the signals in `SIGNALS`, which wait
            for the end of a step of training.
    """
    left = list(cells)

    def leave(cell: Cell) -> None:
        _heed_signals()
        left.remove(cell)
        finish(cell)

    with noted_signals():
        try:
            while left:
                with ExitStack() as locks:
                    ready: Ready = []
                    for cell in list(left):
                        start = _begin(cell, locks)
                        if start is None:
                            leave(cell)
                        else:
                            ready.append((cell, start))
                    abreast = _abreast(ready)
                    failed = _train(abreast) if len(abreast) > 1 else [cell for cell, _ in abreast]
                for cell in failed:
                    leave(cell)
        except KeyboardInterrupt as stop:
            for cell in left:
                record(cell, "interrupted", str(stop) or "stopped by Ctrl-C")
            raise
        except Exception as error:
            for cell in left:
                record(cell, "failed", f"{type(error).__name__}: {error}".splitlines()[0])
            raise


def _heed_signals() -> None:
    """
    Raises:
        Stopped: one has come.
    """
    if sign := noted():
        raise Stopped(sign)


def _begin(cell: Cell, locks: ExitStack) -> Start | None:
    """A run that `locks` holds from now on; None, and unlocked, where nothing can or need be trained."""
    with ExitStack() as own:
        try:
            own.enter_context(lock(cell.folder))
            results = read_results(cell.folder)
            if results is not None and results.status == "finished":
                return None
            for left_over in (RESULTS_FILE, SESSION_FILE):
                (cell.folder / left_over).unlink(missing_ok=True)
            start = begin(cell.config, cell.folder)
        except (Locked, InputError):
            return None
        if start.trained:
            return None
        locks.push(own.pop_all())
        return start


def _abreast(ready: Ready) -> Ready:
    """Cells alike but for their seed, with equally many steps behind them: the fewest of all."""

    def place(cell: Cell, start: Start) -> tuple[int, str]:
        return start.first_step, json.dumps({**cell.config, "seed": None}, sort_keys=True)

    first = min((place(*each) for each in ready), default=None)
    return [each for each in ready if place(*each) == first]


def _train(abreast: Ready) -> list[Cell]:
    """Train until one is done or has failed; those that failed."""
    cells, starts = [cell for cell, _ in abreast], [start for _, start in abreast]
    replicas = Replicas(starts, cells[0].config["optimizer"]["clip_norm"])
    seeds = ", ".join(str(start.parts.settings.seed) for start in starts)
    for start in starts:
        begin_session(start.folder, start.first_step, start.parts.settings.max_steps)
    _say(starts, f"seeds {seeds} train at once from step {starts[0].first_step}")
    try:
        steps = itertools.count(starts[0].first_step)
        fit(starts[0], replicas, (batches([start.data for start in starts], step) for step in steps))
    except Exception:
        _say(starts, traceback.format_exc())
        raise
    _heed_signals()
    return [cells[place] for place in replicas.failed]


def _say(starts: Sequence[Start], text: str) -> None:
    """Into the run.log of each, in the form of a single run's."""
    now = datetime.now().isoformat(" ", "milliseconds").replace(".", ",")
    for start in starts:
        with open(start.folder / "run.log", "a", encoding="utf-8") as file:
            file.write(f"[{now}][INFO] {text}\n")
