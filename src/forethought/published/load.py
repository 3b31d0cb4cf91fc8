"""Loading of the YAML files of published numbers."""

from functools import cache
from pathlib import Path

import yaml  # type: ignore[import-untyped]
from pydantic import ValidationError

from forethought.errors import InputError
from forethought.published.schema import Paper
from forethought.validation import explain_validation


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
        place = ".".join(map(str, error.errors()[0]["loc"]))
        explained = explain_validation(error, "")
        # A rule over several fields does not name its place itself.
        prefix = f"{place}: " if error.errors()[0]["type"] == "value_error" else ""
        raise InputError(f"{path}: {prefix}{explained}") from None
