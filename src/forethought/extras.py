"""Packages of the extras, which the base install lacks."""

from typing import Any

from forethought.errors import InputError


def import_transformers(word: str) -> Any:
    """Import `transformers`, without its log lines and progress bars.

    Args:
        word: KEY=VALUE that requires it.

    Raises:
        InputError: `transformers` is missing.
    """
    try:
        import transformers
    except ImportError:
        raise InputError(f"{word}: transformers is missing; run `pip install -e '.[pretrained]'`") from None
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers


def import_chess() -> Any:
    """Import python-chess.

    Raises:
        InputError: python-chess is missing.
    """
    try:
        import chess
    except ImportError:
        raise InputError(
            "task=chess_mate: python-chess is missing; run `pip install -e '.[chess]'`"
        ) from None
    return chess
