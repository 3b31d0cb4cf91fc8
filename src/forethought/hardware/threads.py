"""CPU cores that a process may use, and the number of threads that is fastest on them."""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

import torch

POOL_SHARE = "FORETHOUGHT_CORES"
"""Environment variable in which the pool tells a worker its share of the cores."""

_GAIN = 0.8  # more threads must take less than this part of the time
_ROUNDS = 15  # of 20 ms: one moment of another process does not decide


def available_cores(root: Path = Path("/")) -> int:
    """Count the CPU cores that this process may use: the least of affinity, quotas, Slurm and the pool.

    Args:
        root: of the file system in which Linux describes the control groups of this process.
    """
    # macOS and Windows do not tell the affinity.
    counts = [len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1]
    counts += _count_in("SLURM_CPUS_PER_TASK") + _count_in(POOL_SHARE)
    counts += [math.ceil(quota) for quota in _quotas(root)]
    return max(1, min(counts))


def requested_threads() -> int | None:
    """Return the user's `OMP_NUM_THREADS`, in the pool at most the worker's share. None if it is not set."""
    requested = _count_in("OMP_NUM_THREADS")
    return min(requested + _count_in(POOL_SHARE)) if requested else None


def _count_in(variable: str) -> list[int]:
    """Return the number in an environment variable as a list; empty if there is none."""
    text = os.environ.get(variable, "").partition(",")[0].strip()  # OpenMP: one entry a nested level
    return [int(text)] if text.isdecimal() and int(text) > 0 else []


def _quotas(root: Path) -> list[float]:
    """Return the CPU quotas, in cores, of this process's control groups and of those around them."""
    quotas = []
    with suppress(OSError, ValueError):
        for line in (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, controllers, group = line.split(":", 2)
            mount = root / "sys/fs/cgroup" / controllers  # version 2 names no controllers
            if controllers and "cpu" not in controllers.split(","):
                continue
            # A container without a namespace of its own sees its group at the mount and not at this path.
            for folder in [mount / group.strip("/"), *(mount / group.strip("/")).parents]:
                if folder.is_relative_to(mount):
                    quotas += _quota_of(folder)
    return quotas


def _quota_of(group: Path) -> list[float]:
    with suppress(OSError, ValueError):
        quota, period = (group / "cpu.max").read_text(encoding="utf-8").split()
        return [int(quota) / int(period)]  # `max` is no number: no quota
    with suppress(OSError, ValueError):
        quota, period = (
            (group / f"cpu.cfs_{name}_us").read_text(encoding="utf-8") for name in ("quota", "period")
        )
        return [int(quota) / int(period)] if int(quota) > 0 else []
    return []


@cache
def fastest_threads(most: int, seconds: Callable[[int], float] | None = None, minute: int = 0) -> int:
    """Return the number of threads, up to `most`, that is fastest on this machine as busy as it is now.

    On a busy machine, a thread that waits for its turn delays all others at the end of each kernel. So
    more threads count as faster only if they gain a fifth.

    Args:
        seconds: returns the seconds of a piece of work on a number of threads; measured by default.
        minute: measured once for each, as other processes come and go between the cells of a sweep.
    """
    counts = [most]
    while counts[-1] > 1:
        counts.append(counts[-1] // 2)
    seconds = seconds or _seconds_of_work
    # In turns, so that a moment of another process's work does not fall on one count alone.
    rounds = [{count: seconds(count) for count in counts} for _ in range(_ROUNDS)]
    taken = {count: statistics.median(times[count] for times in rounds) for count in counts}
    best = 1
    for count in reversed(counts):
        if taken[count] < _GAIN * taken[best]:
            best = count
    return best


def _seconds_of_work(threads: int) -> float:
    """Return the seconds of a few kernels of the sizes of a training step, some 10 ms in all."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        rows, weights = torch.ones(4096, 64, device="cpu"), torch.ones(64, 256, device="cpu")
        torch.mm(rows, weights)  # the first kernel starts the threads
        began = time.perf_counter()
        for _ in range(2):
            torch.nn.functional.gelu(torch.mm(rows, weights)).sum(0)
        return time.perf_counter() - began
    finally:
        torch.set_num_threads(before)
