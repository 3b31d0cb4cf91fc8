"""Writing of a report to disk."""

from pathlib import Path

from forethought.errors import InputError
from forethought.report.budgets import count_by_budget
from forethought.report.page import Picture, render_page
from forethought.report.pairs import compare_levels
from forethought.report.published_table import frame_published
from forethought.report.sweep import Sweep
from forethought.report.tables import format_csv, format_latex
from forethought.results import write_atomically


def write_report(sweep: Sweep, folder: Path) -> Path:
    """Write the page, the plots and the tables to a folder. Return the path of the page.

    Raises:
        InputError: the folder is not writable.
    """
    # Import here: matplotlib takes a second, which the table on the terminal does not need.
    from forethought.report.plots import FORMATS, PLOTS, render_plot

    plots = folder / "plots"
    pictures: list[Picture] = []
    omitted: list[tuple[str, str]] = []
    try:
        plots.mkdir(parents=True, exist_ok=True)
        tables = {"cells": sweep.runs, "groups": sweep.summary, "pairs": compare_levels(sweep)}
        tables["budgets"] = count_by_budget(sweep)
        if sweep.published.comparisons:
            tables["published"] = frame_published(sweep.published)
        else:
            (folder / "published.csv").unlink(missing_ok=True)  # An earlier report may have written it.
        for name, table in tables.items():
            write_atomically(folder / f"{name}.csv", format_csv(table))
        write_atomically(folder / "table.tex", format_latex(sweep))
        for name, plot in PLOTS.items():
            try:
                images: dict[str, bytes] | str = render_plot(name, sweep)
            except Exception as error:  # one picture less must not cost the report
                images = f"could not be drawn ({type(error).__name__}: {error})"
            if isinstance(images, str):
                omitted.append((plot.TITLE, images))
                images = {}
            for kind in FORMATS:
                path = plots / f"{name}.{kind}"
                if kind in images:
                    path.write_bytes(images[kind])
                else:
                    path.unlink(missing_ok=True)  # An earlier report may have written it.
            if images:
                pictures.append(Picture(plot.TITLE, plot.CAPTION, images["png"]))
        write_atomically(folder / "report.html", render_page(sweep, folder, pictures, omitted))
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror}; pass a writable folder") from None
    return folder / "report.html"
