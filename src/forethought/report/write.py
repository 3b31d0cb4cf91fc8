"""Everything that a report leaves on disk."""

from pathlib import Path

from forethought.errors import InputError
from forethought.report.cells import cells_csv
from forethought.report.groups import Sweep
from forethought.report.page import Picture, page
from forethought.report.summary import groups_csv
from forethought.results import write_atomically


def write_report(sweep: Sweep, folder: Path) -> Path:
    """Write `report/` into the folder of a sweep or of a run: the page, the plots, CSVs of runs and groups.

    Returns the path of the page.

    Raises:
        InputError: no permission to write there.
    """
    # Matplotlib takes a second that a table on the terminal need not wait for.
    from forethought.report.plots import FORMATS, PLOTS, render

    report = folder / "report"
    plots = report / "plots"
    try:
        plots.mkdir(parents=True, exist_ok=True)
        write_atomically(report / "cells.csv", cells_csv(sweep))
        write_atomically(report / "groups.csv", groups_csv(sweep))
        pictures = []
        for name, plot in PLOTS.items():
            images = render(name, sweep)
            for kind in FORMATS:
                path = plots / f"{name}.{kind}"
                if kind in images:
                    path.write_bytes(images[kind])
                else:
                    path.unlink(missing_ok=True)  # of an earlier report
            if images:
                pictures.append(Picture(plot.TITLE, plot.CAPTION, images["png"]))
        write_atomically(report / "report.html", page(sweep, pictures))
    except OSError as error:
        raise InputError(f"{report}: {error.strerror}; expected a folder to write the report to") from None
    return report / "report.html"
