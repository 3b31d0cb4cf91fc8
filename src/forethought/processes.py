"""Run jobs in a bounded number of processes, a fresh one for each job, isolated from each other."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import forkserver, get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

PRELOAD = ("forethought.launchers.work", "forethought.models", "forethought.objectives")
"""Modules of a run, whose imports take seconds. None of them touches a GPU."""

_TICK = 2.0  # seconds between two looks at what the running jobs have reached
_GRACE = 60.0  # seconds that interrupted jobs have to write down where they are

Job = Callable[[], int]
"""A callable that a process runs. It returns the exit code of the process."""


@dataclass
class ProcessEnd:
    """The end of a job: exit code of its process, negative for a signal; None if it never started."""

    exit_code: int | None = None

    def __str__(self) -> str:
        if self.exit_code is None:
            return "not started"
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
    rest: bytes = b""


def start_server(preload: Sequence[str] = PRELOAD) -> None:
    """Start the process from which jobs are forked, unless it runs. It imports `preload` meanwhile.

    It ends with this process, and not by Ctrl-C, which a terminal sends to it, too.
    """
    forkserver.set_forkserver_preload([*preload])
    resource_tracker.ensure_running()  # here, as its start would let the signal through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with _without_main(), _room_for_sockets():
            forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def run_processes(
    jobs: Sequence[Job],
    slots: Sequence[dict[str, str]],
    preload: Sequence[str] = PRELOAD,
    stop_after: int | None = None,
    print_line: Callable[[str], None] = print,
    watch: Callable[[], None] | None = None,
    on_end: Callable[[int, ProcessEnd], None] | None = None,
) -> list[ProcessEnd]:
    """Run jobs, as many at a time as there are slots, each in a process forked from a clean server.

    The server is a process that has imported `preload` and nothing else. A job starts in milliseconds and
    shares no state with this process or with another job. Jobs die with this process.

    Args:
        jobs: picklable callables.
        slots: environment variables of each slot.
        preload: modules that the server imports if it does not run yet, none of which may touch a GPU.
        stop_after: start no more jobs after this many have failed (exit code other than 0).
        print_line: called with every line that a job prints.
        watch: called every two seconds.
        on_end: called with the index and the end of each job.
    """
    context = get_context("forkserver")
    start_server(preload)
    ends = [ProcessEnd() for _ in jobs]
    free, upcoming = list(slots), list(range(len(jobs)))
    running: list[_Running] = []
    try:
        while upcoming or running:
            while free and upcoming:
                index, slot = upcoming.pop(0), free.pop(0)
                running.append(_start(context, index, slot, jobs[index]))
            _pass_lines_until_tick(running, print_line)
            if watch is not None:
                watch()
            for job in [job for job in running if not job.process.is_alive()]:
                _pass_lines(job, print_line, to_the_end=True)
                ends[job.index] = ProcessEnd(job.process.exitcode)
                free.append(job.slot)
                running.remove(job)
                if on_end is not None:
                    on_end(job.index, ends[job.index])
            failures = sum(end.exit_code not in (0, None) for end in ends)
            if stop_after is not None and failures >= stop_after:
                upcoming.clear()
    finally:
        _terminate(running, print_line)
    return ends


def _start(context: Any, index: int, slot: dict[str, str], job: Job) -> _Running:
    ours, theirs = context.Pipe(duplex=False)
    environment = {**os.environ, **slot}
    process = context.Process(target=_work, args=(job, theirs, environment, os.getcwd()), daemon=False)
    with _without_main(), _room_for_sockets():  # starts the server anew if it was killed
        process.start()
    theirs.close()
    return _Running(index, slot, process, ours)


@contextmanager
def _without_main() -> Iterator[None]:
    """Hide the main module, which a process would import: a script without a main guard would run again."""
    main: Any = sys.modules["__main__"]
    names = {name: getattr(main, name, None) for name in ("__file__", "__spec__")}
    main.__file__ = main.__spec__ = None
    try:
        yield
    finally:
        for name, value in names.items():
            setattr(main, name, value)


def short_temporary_folder(room: int) -> str:
    """Return the temporary folder, or one that leaves `room` bytes of the 103 of a socket's path for a name.

    Slurm often makes a folder for each job, with a long name.
    """
    own = tempfile.gettempdir()
    places = [own, "/tmp", "/var/tmp", "/dev/shm"]
    short = (place for place in places if len(os.fsencode(place)) <= 103 - room and os.access(place, os.W_OK))
    return next(short, own)


@contextmanager
def _room_for_sockets() -> Iterator[None]:
    """Let `multiprocessing` put its sockets where their paths are not too long."""
    before = tempfile.tempdir
    tempfile.tempdir = short_temporary_folder(room=len("/pymp-12345678/listener-12345678"))
    try:
        yield
    finally:
        tempfile.tempdir = before


def _pass_lines_until_tick(running: list[_Running], print_line: Callable[[str], None]) -> None:
    """Pass printed lines on until a job ends or a tick has passed."""
    deadline = time.monotonic() + _TICK
    by_pipe = {job.lines: job for job in running}
    while (left := deadline - time.monotonic()) > 0:
        ready = wait([*by_pipe, *(job.process.sentinel for job in running)], left)
        for lines in by_pipe.keys() & set(ready):
            _pass_lines(by_pipe[lines], print_line)
        if any(job.process.sentinel in ready for job in running):
            return


def _pass_lines(job: _Running, print_line: Callable[[str], None], to_the_end: bool = False) -> None:
    """Pass on every whole line that waits to be read; at the end of a job also the rest of the last one."""
    while job.lines.poll():
        if not (data := os.read(job.lines.fileno(), 65536)):
            break
        *lines, job.rest = (job.rest + data).split(b"\n")
        for line in lines:
            print_line(line.decode(errors="replace"))
    if to_the_end and job.rest:
        print_line(job.rest.decode(errors="replace"))


def _terminate(running: list[_Running], print_line: Callable[[str], None]) -> None:
    """After Ctrl-C or a signal: let jobs save their state; kill those that do not end in time."""
    for job in running:
        job.process.terminate()  # a signal may have come to this process alone
    deadline = time.monotonic() + _GRACE
    while (alive := [job for job in running if job.process.is_alive()]) and time.monotonic() < deadline:
        _pass_lines_until_tick(alive, print_line)  # a job whose output nobody reads would wait
    for job in running:
        if job.process.is_alive():
            job.process.kill()
        job.process.join()


def _work(job: Job, lines: Connection, environment: dict[str, str], folder: str) -> None:
    """Run a job: the whole life of its process."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    # A pipe for each job, so that lines of two jobs never mix. It replaces the descriptors, so that it also
    # gets what child processes and libraries in C print.
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(lines.fileno(), number)
        stream = os.fdopen(number, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
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
