"""Forethought: when does next-token prediction stop a model from planning ahead, and what repairs it?"""

import os
from typing import Any

# OpenMP reads these when torch is imported, so they stand here, before any import of torch by this package.
# Threads that spin while they wait made a step 37× slower on a busy machine; threads that sleep, 1.3×.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("KMP_BLOCKTIME", "0")  # for Intel's and LLVM's OpenMP

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import `load` and `load_sweep` at first use: the command line must not wait for torch or pandas."""
    if name == "load":
        from forethought.training import load

        return load
    if name == "load_sweep":
        from forethought.results.frame import load_sweep

        return load_sweep
    raise AttributeError(f"module 'forethought' has no attribute {name!r}")
