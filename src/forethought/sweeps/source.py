"""Hashes of source files, by which an edited loss is noticed."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path


@cache
def hash_source(module: str) -> str | None:
    """Return the hash of a module's file, which is not imported. None if there is no such file."""
    top, *rest = module.split(".")
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin)
    if rest:
        path = path.parent.joinpath(*rest)
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12] if path.is_file() else None
