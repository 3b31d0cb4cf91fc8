"""Rewrite the tables of RESULTS.md in place: `make results`."""

from pathlib import Path

from tables.page import rewrite

PAGE = Path(__file__).parents[1] / "RESULTS.md"
PAGE.write_text(rewrite(PAGE.read_text()))
