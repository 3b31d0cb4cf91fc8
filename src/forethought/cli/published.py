"""`forethought published`: published numbers, and which of them runs of ours stand beside; never torch."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from forethought.published import Paper
    from forethought.report.published import Published

_SWEEPS = Path("multirun")
_CAPTION = (
    "Measured: cells with runs of ours; small: cells beside which the small sibling stands.\n"
    "forethought train -m experiment=NAME runs a table; with dry_run=true, it prints what that costs.\n"
    "forethought published PAPER lists the cells."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "words",
        nargs="*",
        metavar="PAPER|PATH",
        help="papers, to print their cells, and folders or CSV files of runs; by default all papers, beside "
        f"every sweep in {_SWEEPS}/ and, in a checkout, the runs of docs/RESULTS.md",
    )


def run(options: argparse.Namespace) -> int:
    from forethought.published import load_papers
    from forethought.report.published import compare_published

    papers = load_papers()
    names = {paper.name for paper in papers}
    chosen = [paper for paper in papers if paper.name in options.words]
    paths = [Path(word) for word in options.words if word not in names]
    published = compare_published(_load_runs(paths, [*names]), chosen or papers)
    if chosen:
        _print_cells(chosen, published)
    else:
        _print_tables(papers, published)
    return 0


def _load_runs(paths: Sequence[Path], names: Sequence[str]) -> pd.DataFrame:
    """Load the runs of all paths; by default of the sweeps in `multirun/`, and of `docs/results/`.

    Raises:
        InputError: a path has no results, or is no path.
    """
    from forethought.config_folder import config_folder
    from forethought.errors import InputError, expected_one_of
    from forethought.results import GRID_FILE, RESULTS_FILE
    from forethought.results.cells_file import is_file_of_runs
    from forethought.results.frame import build_frame, load_sweep

    for path in paths:
        if not path.exists():
            raise InputError(f"{path}: no such path or paper; {expected_one_of(names, str(path))}, or a path")
    if not paths:
        sweeps = sorted(path.parent for path in _SWEEPS.glob(f"*/{GRID_FILE}"))
        paths = [path for path in sweeps if any(path.glob(f"*/{RESULTS_FILE}"))]
        paths += filter(is_file_of_runs, sorted((config_folder().parent / "docs/results").glob("*.csv")))
    return load_sweep(*paths) if paths else build_frame([])


def _print_tables(papers: Sequence[Paper], published: Published) -> None:
    """Print a row for each table of each paper."""
    from rich.markup import escape
    from rich.text import Text

    from forethought.published import read_protocol
    from forethought.report.agreement import WORDS
    from forethought.report.table import build_table, open_console

    console, rows = open_console(), []
    for paper in papers:
        for name, table in paper.tables.items():
            own = [each for each in published.comparisons if each.table is table]
            measured = len({each.cell.label for each in own if not each.is_small})
            if measured:
                state = f"{measured} of {len(table.cells)}"
            elif table.metric is None and all(cell.metric is None for cell in table.cells):
                state = "no metric"
            else:
                state = "open" if read_protocol(paper.experiment(name)) else "no experiment"
            small = len({each.cell.label for each in own if each.is_small})
            counts = [sum(each.word == word for each in own) if measured else "" for word in WORDS]
            texts = [len(table.cells), table.grade, state, small or "", *counts]
            rows.append([Text(f"{paper.name}/{name}"), *(Text(str(text)) for text in texts)])
    titles = ["cells", "grade", "measured", "small", *WORDS]
    console.print(build_table(titles, rows, _CAPTION, console.width))
    for note in published.notes:
        console.print(escape(note), highlight=False)


def _print_cells(papers: Sequence[Paper], published: Published) -> None:
    """Print every cell of some papers, with the command of each table."""
    from rich.markup import escape

    from forethought.published import read_protocol
    from forethought.report.published_table import PUBLISHED_CAPTION, tabulate_cells
    from forethought.report.table import build_published_table, open_console

    console = open_console()
    for paper in papers:
        link = f"https://arxiv.org/abs/{paper.arxiv}" if paper.arxiv else paper.url or ""
        title = ", ".join(filter(None, (paper.paper, paper.title, link)))
        console.print(escape(title), highlight=False)
        for name, table in paper.tables.items():
            experiment = paper.experiment(name)
            if read_protocol(experiment):
                command = f"forethought train -m experiment={experiment}"
            else:
                command = "open: no experiment"
            metric = table.metric or "a metric for each cell"
            console.print(escape(f"\n{experiment}: {table.source}; {metric}\n{command}"), highlight=False)
            rows = tabulate_cells(paper, name, published.comparisons)
            console.print(build_published_table(rows, console.width, caption=""))
    console.print(PUBLISHED_CAPTION, highlight=False)
    for note in published.notes:
        console.print(escape(note), highlight=False)
