"""Writing of the tables into a page of Markdown."""

import re

from tables.contents import TABLES
from tables.rows import Table, select
from tables.siblings import render_siblings

SIBLINGS = "small_siblings"
NAMES = (*TABLES, SIBLINGS)


def rewrite(page: str) -> str:
    """Return the page with the content of each block `<!-- table NAME -->` … `<!-- end -->` replaced.

    Raises:
        LookupError: a row of a table has no run.
        ValueError: a block names an unknown table, or a row of a table has several runs of a seed.
    """

    def fill(block: re.Match[str]) -> str:
        name = block["name"]
        if name not in NAMES:
            raise ValueError(f"table {name}: unknown; expected one of {', '.join(NAMES)}")
        text = render_siblings() if name == SIBLINGS else render(TABLES[name])
        return f"{block['begin']}\n\n{text}\n\n{block['end']}"

    pattern = r"(?P<begin><!-- table (?P<name>\w+) -->).*?(?P<end><!-- end -->)"
    return re.sub(pattern, fill, page, flags=re.DOTALL)


def render(table: Table) -> str:
    """Return the table in Markdown."""
    titles = [*table.title.split(" | "), *table.columns]
    lines = [" | ".join(titles)]
    for row in table.rows:
        runs = select(row.file or table.file, row.where)
        columns = {**table.columns, **row.columns}
        lines.append(" | ".join([row.title, *(column(runs) for column in columns.values())]))
    head, *body = (f"| {line} |" for line in lines)
    return "\n".join([head, "|" + "---|" * len(titles), *body])
