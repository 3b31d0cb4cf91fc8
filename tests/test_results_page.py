"""Test that the tables of RESULTS.md are those of the files in docs/results."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "RESULTS.md").read_text()


@pytest.fixture
def page(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    from tables import page

    return page


def test_the_page_has_the_tables_of_the_files(page) -> None:
    damaged = re.sub(r"\d(?=[^|\n]*\|\n)", "x", PAGE)  # one digit in the last column of each row
    assert damaged != PAGE
    assert page.rewrite(damaged).split("\n## ")[2:] == PAGE.split("\n## ")[2:], "run make results"


def test_every_table_of_results_is_a_block(page) -> None:
    blocks = re.findall(r"<!-- table (\w+) -->\n\n((?:\|.*\n)+)\n<!-- end -->", PAGE)
    assert [name for name, _ in blocks] == list(page.NAMES)
    claims, *others = re.findall(r"(?:^\|.*\n)+", PAGE, re.MULTILINE)
    assert claims.startswith("| claim |")  # typed: words, with the counts of the other tables
    assert others == [table for _, table in blocks]


def test_an_unknown_table_is_an_error(page) -> None:
    with pytest.raises(ValueError, match="table nothing: unknown; expected one of objectives, phase_diagram"):
        page.rewrite("<!-- table nothing -->\n\n<!-- end -->")


def test_a_filter_that_mixes_settings_is_an_error(page) -> None:
    from tables.columns import SOLVED
    from tables.rows import Row, Table

    table = Table("g24_prefix", "objective", [Row("all")], SOLVED)
    with pytest.raises(ValueError, match="g24_prefix, all: several runs of a seed"):
        page.render(table)
