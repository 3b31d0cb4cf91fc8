"""Broken YAML files as one line that names the file and the line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from omegaconf.errors import GrammarParseError
from omegaconf.grammar_parser import parse

from forethought.errors import InputError


def explain_yaml(error: yaml.YAMLError, text: str = "", path: object = None) -> InputError:
    """Return an error of the YAML parser as one line.

    Args:
        text: what was parsed, if it was not a file.
        path: named in place of what was parsed.
    """
    if isinstance(error, yaml.reader.ReaderError):  # an unprintable character
        path = path or error.name
        # In a file, Hydra's parser gives the position in a buffer, so the file is parsed anew.
        if not text and isinstance(path, str):
            return find_broken_yaml([Path(path)]) or _broken(path, 1, str(error))
        return _broken(path, text[: error.position].count("\n") + 1, error.reason)
    mark = error.problem_mark or error.context_mark
    reason = error.problem or error.context
    if (
        error.context_mark is not None and error.context_mark.line != mark.line
    ):  # of a bracket that is not closed
        reason = f"{reason} ({error.context} from line {error.context_mark.line + 1})"
    return _broken(path or mark.name, mark.line + 1, reason)


def find_broken_yaml(paths: Iterable[Path]) -> InputError | None:
    """Return what is wrong with the first broken file among paths or in folders of `paths`, or None."""
    for path in paths:
        for file in sorted(path.rglob("*.yaml")) if path.is_dir() else [path]:
            if (error := _check(file)) is not None:
                return error
    return None


def _check(path: Path) -> InputError | None:
    try:
        content = path.read_bytes()
        text = content.decode()
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except OSError:
        return None  # not a file, or said elsewhere
    except UnicodeDecodeError as error:
        return _broken(path, content[: error.start].count(b"\n") + 1, "not UTF-8")
    except yaml.YAMLError as error:
        return explain_yaml(error, text, path)
    if root is None:
        return None
    if not isinstance(root, yaml.MappingNode):
        return _broken(path, root.start_mark.line + 1, "expected KEY: VALUE")
    for node, is_key in _scalars(root):
        line = node.start_mark.line + 1
        if is_key and not node.tag.endswith((":str", ":merge")):
            return _broken(path, line, f"{node.value} is not a text; quote it")
        try:
            parse(node.value)
        except GrammarParseError:
            return _broken(path, line, f"{node.value} cannot be read")
    return None


def _scalars(node: Any, is_key: bool = False) -> Iterator[tuple[Any, bool]]:
    """Yield all scalars below a node, and whether they are keys."""
    if isinstance(node, yaml.ScalarNode):
        if is_key or "${" in node.value:
            yield node, is_key
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _scalars(key, is_key=True)
            yield from _scalars(value)
    else:
        for value in node.value:
            yield from _scalars(value)


def _broken(path: object, line: int, reason: str) -> InputError:
    return InputError(f"{path}: line {line}: {reason.rstrip('.')}; correct the YAML")
