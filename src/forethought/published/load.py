"""Loading of the YAML files of published numbers."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from pydantic import ValidationError

from forethought.errors import InputError
from forethought.published.schema import Paper
from forethought.validation import accepted_values


@cache
def load_papers(folder: Path = Path(__file__).parent) -> tuple[Paper, ...]:
    """Load every `PAPER.yaml` of a folder, by name.

    Raises:
        InputError: a file is not YAML or not of the schema; the message names file, key and value.
    """
    return tuple(map(_load_paper, sorted(folder.glob("*.yaml"))))


def _load_paper(path: Path) -> Paper:
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: corrupt, not YAML ({error})") from None
    if not isinstance(entries, dict):
        raise InputError(f"{path}: expected a mapping with paper, title and tables")
    try:
        return Paper.model_validate({**entries, "name": path.stem})
    except ValidationError as error:
        raise InputError(f"{path}: {_explain(dict(error.errors()[0]))}") from None


def _explain(complaint: dict[str, Any]) -> str:
    """Return the place of a complaint of pydantic, the value and what is accepted."""
    place = ".".join(map(str, complaint["loc"]))
    if complaint["type"] == "value_error":  # of a rule that names the value itself
        return f"{place}: {complaint['ctx']['error']}"
    if complaint["type"] == "missing":
        return f"{place}: missing; use a value, or null if it is not known"
    if complaint["type"] == "extra_forbidden":
        return f"{place}: unknown key"
    return f"{place}={complaint['input']}: expected {accepted_values(complaint)}"
