"""Signals that announce the end of a process: the run saves its state first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)
"""SIGTERM is sent by `kill`, systemd and Slurm; submitit and `sbatch --signal` choose one of SIGUSR1 and
SIGUSR2. SIGHUP is sent when the terminal goes away; under `nohup` it stays ignored."""

_pending: list[signal.Signals] = []  # one process, one set of signals


class Stopped(KeyboardInterrupt):
    """KeyboardInterrupt raised for a signal other than SIGINT."""

    def __init__(self, sign: signal.Signals) -> None:
        super().__init__(f"stopped by {sign.name}")
        self.sign = sign


def pending_signal() -> signal.Signals | None:
    """Return the first signal received while signals are deferred, or None."""
    return _pending[0] if _pending else None


def install_deferring_handlers() -> None:
    """Set the handlers of `defer_signals` again, after a library has replaced them."""
    if threading.current_thread() is threading.main_thread():
        for sign in _heeded():
            signal.signal(sign, _defer)


def _heeded() -> list[signal.Signals]:
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN  # by nohup
    return [sign for sign in SIGNALS if not (sign is signal.SIGHUP and ignored)]


@contextmanager
def defer_signals() -> Iterator[None]:
    """Defer `SIGNALS` until the block exits, then re-raise the first one received.

    So a run stops at a place of its choosing. Then it dies of the signal, or the handler of its queue
    requeues it. A nested block leaves its signals to the outer one.
    """
    try:
        with _handled_by(_defer):
            yield
    finally:
        if sign := pending_signal():
            _pending.clear()
            signal.raise_signal(sign)


@contextmanager
def raise_on_signal() -> Iterator[None]:
    """Raise `Stopped` at the first signal in the block and ignore later ones."""
    with _handled_by(_stop):
        yield


@contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # the only one that may set handlers
        yield
        return
    earlier = {sign: signal.signal(sign, handler) for sign in _heeded()}
    try:
        yield
    finally:
        for sign, before in earlier.items():
            signal.signal(sign, signal.SIG_DFL if before is None else before)


def _defer(number: int, frame: FrameType | None) -> None:
    _pending.append(signal.Signals(number))


def _stop(number: int, frame: FrameType | None) -> None:
    for sign in SIGNALS:
        signal.signal(sign, signal.SIG_IGN)
    raise Stopped(signal.Signals(number))
