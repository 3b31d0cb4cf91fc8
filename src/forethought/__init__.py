"""Forethought: when does next-token prediction stop a model from planning ahead, and what repairs it?"""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import `forethought.load` when it is first asked for: the command line must not wait for torch."""
    if name == "load":
        from forethought.training import load

        return load
    raise AttributeError(f"module 'forethought' has no attribute {name!r}")
