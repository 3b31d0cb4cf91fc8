"""Memory of this process."""

import ctypes
import os
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h
_KEPT = 2**31 - 1
_LARGEST_MMAP_THRESHOLD = 2**25


def keep_freed_memory() -> None:
    """Let the C library keep what it frees, rather than return it to the system after every step.

    Each page that comes back anew costs a page fault, and a training step can have thousands of them
    (docs/PERFORMANCE.md). Only glibc can be told; nothing happens elsewhere, nor where the user has set its
    variables.
    """
    given = [name for name in os.environ if name.startswith("MALLOC_") or name == "GLIBC_TUNABLES"]
    if sys.platform != "linux" or given:
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, _KEPT)
        mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
