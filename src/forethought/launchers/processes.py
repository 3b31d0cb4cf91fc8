"""A bounded number of processes, a fresh one for each job: what happens to one touches no other."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from typing import Any

_TICK = 2.0  # seconds between two looks at what the running jobs have reached
_GRACE = 60.0  # seconds that interrupted jobs have to write down where they are

Job = Callable[[], int]
"""What a process runs; what it returns is the process's exit code."""


@dataclass
class Ended:
    """How a job ended: the exit code of its process, negative for a signal; None if it never began."""

    exit_code: int | None = None

    def __str__(self) -> str:
        if self.exit_code is None:
            return "not begun"
        if self.exit_code < 0:
            name = signal.Signals(-self.exit_code).name
            hint = ": out of memory, or killed by hand" if name == "SIGKILL" else ""
            return f"its process was killed by {name}{hint}"
        return f"its process ended with exit code {self.exit_code}"


@dataclass
class _Running:
    index: int
    slot: dict[str, str]
    process: Any
    lines: Connection


def run_jobs(
    jobs: Sequence[Job],
    slots: Sequence[dict[str, str]],
    preload: Sequence[str] = (),
    stop_after: int | None = None,
    say: Callable[[str], None] = print,
    watch: Callable[[int, int], None] | None = None,
) -> list[Ended]:
    """Run jobs, as many at a time as there are slots, each in a process forked from a clean server.

    The server is a process that has imported `preload` and nothing else, so a job starts in milliseconds
    and shares no state with this process or with another job. Jobs die with this process.

    Args:
        jobs: picklable callables.
        slots: environment variables of each slot.
        preload: modules that the server imports, none of which may touch a GPU.
        stop_after: begin no more jobs after this many have failed (exit code other than 0).
        say: gets every line that a job prints.
        watch: called every two seconds with the number of waiting and of running jobs.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    ended = [Ended() for _ in jobs]
    free, upcoming = list(slots), list(range(len(jobs)))
    running: list[_Running] = []
    try:
        while upcoming or running:
            while free and upcoming:
                index, slot = upcoming.pop(0), free.pop(0)
                running.append(_start(context, index, slot, jobs[index]))
            _listen(running, say)
            if watch is not None:
                watch(len(upcoming), len(running))
            for each in [each for each in running if not each.process.is_alive()]:
                _pass_on(each, say)
                ended[each.index] = Ended(each.process.exitcode)
                free.append(each.slot)
                running.remove(each)
            failures = sum(each.exit_code not in (0, None) for each in ended)
            if stop_after is not None and failures >= stop_after:
                upcoming.clear()
    finally:
        _end(running)
    return ended


def _start(context: Any, index: int, slot: dict[str, str], job: Job) -> _Running:
    ours, theirs = context.Pipe(duplex=False)
    environment = {**os.environ, **slot}
    process = context.Process(target=_work, args=(job, theirs, environment, os.getcwd()), daemon=False)
    process.start()
    theirs.close()
    return _Running(index, slot, process, ours)


def _listen(running: list[_Running], say: Callable[[str], None]) -> None:
    """Pass on what is printed until a job ends or a tick has passed."""
    deadline = time.monotonic() + _TICK
    speaking = {each.lines: each for each in running}
    while (left := deadline - time.monotonic()) > 0:
        ready = wait([*speaking, *(each.process.sentinel for each in running)], left)
        for lines in speaking.keys() & set(ready):
            _pass_on(speaking[lines], say)
        if any(each.process.sentinel in ready for each in running):
            return


def _pass_on(job: _Running, say: Callable[[str], None]) -> None:
    """Every line that waits to be read."""
    try:
        while job.lines.poll():
            say(job.lines.recv())
    except (EOFError, OSError):  # also what a killed process leaves, or half of it
        pass


def _end(running: list[_Running]) -> None:
    """After Ctrl-C or a signal: the jobs write down where they are; what does not end in time is killed."""
    for each in running:
        each.process.terminate()  # a signal may have come to this process alone
    deadline = time.monotonic() + _GRACE
    for each in running:
        each.process.join(max(0.0, deadline - time.monotonic()))
        if each.process.is_alive():
            each.process.kill()
            each.process.join()


def _work(job: Job, lines: Connection, environment: dict[str, str], folder: str) -> None:
    """The whole life of a job's process."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    sys.stdout = sys.stderr = _Lines(lines)
    try:
        code = job()
    except KeyboardInterrupt:
        code = 130
    sys.stdout.flush()
    sys.exit(code)


def _die_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


class _Lines(io.TextIOBase):
    """A standard output that sends whole lines to the parent, so that those of two jobs never mix."""

    def __init__(self, connection: Connection) -> None:
        self.connection, self.rest = connection, ""

    def write(self, text: str) -> int:
        *lines, self.rest = (self.rest + text).split("\n")
        for line in lines:
            self.connection.send(line)
        return len(text)

    def flush(self) -> None:
        if self.rest:
            self.connection.send(self.rest)
            self.rest = ""
