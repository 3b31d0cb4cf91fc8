"""Forethought: when does next-token prediction stop a model from planning ahead, and what repairs it?"""

from typing import Any

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
