"""Rewrite the tables of RESULTS.md in place, and draw the pictures of results files: `make results`."""

from pathlib import Path

from tables.page import rewrite
from tables.pictures import draw_phase_diagram

PAGE = Path(__file__).parents[1] / "RESULTS.md"
PAGE.write_text(rewrite(PAGE.read_text()))
PAGE.with_name("phase_diagram.png").write_bytes(draw_phase_diagram())
