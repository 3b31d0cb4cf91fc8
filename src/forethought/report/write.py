"""Writing of a report to disk."""

from pathlib import Path

from forethought.errors import InputError
from forethought.report.csv_files import format_cells_csv, format_groups_csv
from forethought.report.groups import Sweep
from forethought.report.page import Picture, render_page
from forethought.results import write_atomically


def write_report(sweep: Sweep, folder: Path) -> Path:
    """Write the page, the plots and two CSV files to `report/` in the folder. Return the path of the page.

    Raises:
        InputError: the folder is not writable.
    """
    # Import here: matplotlib takes a second, which the table on the terminal does not need.
    from forethought.report.plots import FORMATS, PLOTS, render_plot

    report = folder / "report"
    plots = report / "plots"
    try:
        plots.mkdir(parents=True, exist_ok=True)
        write_atomically(report / "cells.csv", format_cells_csv(sweep))
        write_atomically(report / "groups.csv", format_groups_csv(sweep))
        pictures = []
        for name, plot in PLOTS.items():
            images = render_plot(name, sweep)
            for kind in FORMATS:
                path = plots / f"{name}.{kind}"
                if kind in images:
                    path.write_bytes(images[kind])
                else:
                    path.unlink(missing_ok=True)  # An earlier report may have written it.
            if images:
                pictures.append(Picture(plot.TITLE, plot.CAPTION, images["png"]))
        write_atomically(report / "report.html", render_page(sweep, pictures))
    except OSError as error:
        raise InputError(f"{report}: {error.strerror}; pass a writable folder") from None
    return report / "report.html"
