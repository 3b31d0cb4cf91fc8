"""`forethought report`: tables, plots and one HTML page, from the results on disk; never torch."""

from __future__ import annotations

import argparse
from pathlib import Path

from forethought.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        type=Path,
        help="folder of a sweep or of a run, or a CSV file of runs (cells.csv); several share a report",
    )
    parser.add_argument(
        "--out", metavar="DIR", type=Path, help="folder of the report; SOURCE/report by default"
    )
    parser.add_argument(
        "--where",
        metavar="FILTER",
        help="select runs by any column of cells.csv: 'objective=next_token and degree>2', "
        "'verdict in (solved, partial) or not steps_to_solve<1000'",
    )
    for axis, place in (("x", "on the x axis"), ("y", "on the y axis"), ("hue", "shown by colour")):
        parser.add_argument(f"--{axis}", metavar="KEY", help=f"parameter {place}; automatic by default")
    parser.add_argument(
        "--metric", metavar="NAME", help="metric to draw; the share of solved seeds by default"
    )


def run(options: argparse.Namespace) -> int:
    sources = options.sources
    folders = [source for source in sources if source.is_dir()]
    if options.out is None and (len(sources) > 1 or sources[0].is_file()):
        kind = "several folders or files require" if len(sources) > 1 else f"{sources[0]}: a file requires"
        raise InputError(f"report: {kind} --out DIR, the folder of the report")
    from forethought import load_sweep
    from forethought.cli.show import print_strangers
    from forethought.report import build_sweep, print_table, write_report
    from forethought.results import RESULTS_FILE
    from forethought.sweeps import GRID_FILE

    out = options.out or sources[0] / "report"
    if any((out / name).exists() for name in (RESULTS_FILE, GRID_FILE)):
        raise InputError(
            f"--out={out}: is the folder of a sweep or run; use another one, such as {out}/report"
        )
    axes = {axis: getattr(options, axis) for axis in ("x", "y", "hue", "metric")}
    sweep = build_sweep(load_sweep(*sources), options.where, **axes)
    print_table(sweep)
    for folder in folders:
        print_strangers(folder)
    print(f"report: {write_report(sweep, out)}")
    return 0
