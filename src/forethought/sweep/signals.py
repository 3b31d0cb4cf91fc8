"""Signals that announce the end of a process: a run that gets one first writes down where it is."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
"""SIGTERM is what `kill`, systemd and Slurm send; submitit and `sbatch --signal` choose one of the others."""

_noted: list[signal.Signals] = []  # one process, one set of signals


class Stopped(KeyboardInterrupt):
    """Ctrl-C by another signal."""

    def __init__(self, sign: signal.Signals) -> None:
        super().__init__(f"stopped by {sign.name}")
        self.sign = sign


def noted() -> signal.Signals | None:
    """The first signal that has come since they are noted, if one has."""
    return _noted[0] if _noted else None


def note_signals() -> None:
    """From here on signals are noted and nothing else happens; see `noted_signals` for the way back."""
    for sign in SIGNALS:
        signal.signal(sign, _note)


@contextmanager
def noted_signals() -> Iterator[None]:
    """Signals that come inside are noted, and afterwards the first goes to whoever would have had it.

    So a run ends at a place of its own choosing, and then dies of the signal, or its queue's handler puts
    it back into the queue. Inside another one they are that one's from then on.
    """
    try:
        with _handled_by(_note):
            yield
    finally:
        if sign := noted():
            _noted.clear()
            signal.raise_signal(sign)


@contextmanager
def stopping_signals() -> Iterator[None]:
    """The first signal that comes inside raises `Stopped`; what that has to write down none interrupts."""
    with _handled_by(_stop):
        yield


@contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # where Python lets nobody set one
        yield
        return
    earlier = {sign: signal.signal(sign, handler) for sign in SIGNALS}
    try:
        yield
    finally:
        for sign, before in earlier.items():
            signal.signal(sign, signal.SIG_DFL if before is None else before)


def _note(number: int, frame: FrameType | None) -> None:
    _noted.append(signal.Signals(number))
    for child in multiprocessing.active_children():  # the processes of a DDP run
        if child.pid is not None:
            os.kill(child.pid, number)


def _stop(number: int, frame: FrameType | None) -> None:
    for sign in SIGNALS:
        signal.signal(sign, signal.SIG_IGN)
    raise Stopped(signal.Signals(number))
